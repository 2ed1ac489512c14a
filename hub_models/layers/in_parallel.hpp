// Work shared by threads; what is included here is part of the hash by which a twin is kept.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

// Calls work(begin, end) for shares of [0, count) on `threads` threads; which thread does what must change no result.
static void in_parallel(int threads, int64_t count, int64_t share, const std::function<void(int64_t, int64_t)>& work) {
  std::atomic<int64_t> next{0};
  auto take = [&] {
    for (int64_t begin; (begin = next.fetch_add(share)) < count;) work(begin, std::min(begin + share, count));
  };
  std::vector<std::thread> others;
  for (int i = 1; i < threads && i * share < count; i++) others.emplace_back(take);
  take();
  for (auto& other : others) other.join();
}
