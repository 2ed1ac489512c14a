// The compiled twin of low_bit_scales.py and low_bit_packing.py: scales, packing and decoding of low-bit weights.

#include <cmath>
#include <cstring>

#include "in_parallel.hpp"

static const int LANES = 16;
static const int64_t BLOCK = 64;  // words whose digits are at hand at once

// Nearest level of a weight, ties to even, as torch rounds: adding 1.5 * 2^23 leaves no bits below the point.
static inline float level_of(float weight, float scale, float lowest, float highest) {
  const float clipped = std::min(std::max(weight / scale, lowest), highest);
  return (clipped + 12582912.0f) - 12582912.0f;
}

// <w, q> / <q, q>, or 0 where all q are 0; a lane sums every sixteenth weight.
static float fitted_scale(const float* weights, int64_t count, float scale, float lowest, float highest) {
  double along[LANES] = {}, square[LANES] = {};
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES)
    for (int lane = 0; lane < LANES; lane++) {
      const float w = weights[i + lane], q = level_of(w, scale, lowest, highest);
      along[lane] += (double)w * q;
      square[lane] += (double)(q * q);
    }
  for (int lane = 0; i < count; i++, lane++) {
    const float w = weights[i], q = level_of(w, scale, lowest, highest);
    along[lane] += (double)w * q;
    square[lane] += (double)(q * q);
  }
  double a = 0, s = 0;
  for (int lane = 0; lane < LANES; lane++) a += along[lane], s += square[lane];
  return s > 0 ? (float)(a / s) : 0.0f;
}

static constexpr int digits_within(int base, unsigned __int128 limit) {
  int digits = 0;
  for (unsigned __int128 power = base; power <= limit; power *= base) digits++;
  return digits;
}

static constexpr uint64_t power_of(int base, int digits) {
  uint64_t power = 1;
  for (int i = 0; i < digits; i++) power *= base;
  return power;
}

// Packing and decoding for one base, which the compiler turns divisions by into multiplications.
template <int BASE>
struct Radix {
  static constexpr int PER_WORD = digits_within(BASE, (unsigned __int128)1 << 64);
  static constexpr int AT_ONCE = digits_within(BASE, 2048);  // at most 8 digits are looked up at once
  static constexpr uint64_t PART = power_of(BASE, AT_ONCE);
  static constexpr int LOWEST = -(BASE / 2);

  static void pack(int threads, int64_t count, int64_t columns, const float* weights, const float* scales,
                   uint64_t* words) {
    in_parallel(threads, (count + PER_WORD - 1) / PER_WORD, BLOCK, [&](int64_t begin, int64_t end) {
      uint8_t digits[BLOCK * PER_WORD] = {};
      const int64_t first = begin * PER_WORD, last = std::min(end * PER_WORD, count);
      for (int64_t i = first; i < last;) {  // a row's part at a time
        const int64_t row = i / columns, stop = std::min((row + 1) * columns, last);
        const float scale = scales[row];
        for (; i < stop; i++)
          digits[i - first] = (uint8_t)(int)(level_of(weights[i], scale, LOWEST, BASE - 1 + LOWEST) - LOWEST);
      }
      for (int64_t w = begin; w < end; w++) {
        const uint8_t* own = digits + (w - begin) * PER_WORD;
        uint64_t word = 0;
        for (int i = PER_WORD - 1; i >= 0; i--) word = word * BASE + own[i];
        words[w] = word;
      }
    });
  }

  static void decode(int threads, int64_t count, int64_t columns, const uint64_t* words, const float* scales,
                     float* weights) {
    static const std::vector<int8_t> table = levels_of_parts();
    in_parallel(threads, (count + PER_WORD - 1) / PER_WORD, 8 * BLOCK, [&](int64_t from, int64_t to) {
      int8_t levels[BLOCK * PER_WORD + 8];
      for (int64_t begin = from; begin < to; begin += BLOCK) {
        const int64_t end = std::min(begin + BLOCK, to);
        for (int64_t w = begin; w < end; w++) {
          uint64_t rest = words[w];
          int8_t* own = levels + (w - begin) * PER_WORD;
          for (int i = 0; i < PER_WORD; i += AT_ONCE, rest /= PART)
            std::memcpy(own + i, &table[8 * (rest % PART)], 8);  // what is too much, the next one overwrites
        }
        const int64_t first = begin * PER_WORD, last = std::min(end * PER_WORD, count);
        for (int64_t i = first; i < last;) {
          const int64_t row = i / columns, stop = std::min((row + 1) * columns, last);
          const float scale = scales[row];
          for (; i < stop; i++) weights[i] = (float)levels[i - first] * scale;
        }
      }
    });
  }

  static std::vector<int8_t> levels_of_parts() {
    std::vector<int8_t> table(8 * PART, 0);
    for (uint64_t part = 0; part < PART; part++) {
      uint64_t rest = part;
      for (int i = 0; i < AT_ONCE; i++, rest /= BASE) table[8 * part + i] = (int8_t)((int)(rest % BASE) + LOWEST);
    }
    return table;
  }
};

template <typename Work>
static void for_bits(int bits, const Work& work) {
  switch (bits) {
    case 1: return work(Radix<3>());
    case 2: return work(Radix<5>());
    case 3: return work(Radix<9>());
    case 4: return work(Radix<17>());
    case 5: return work(Radix<33>());
    case 6: return work(Radix<65>());
    case 7: return work(Radix<129>());
    case 8: return work(Radix<256>());
  }
}

extern "C" {

// weights [rows, columns], scales [rows] as the start and the result.
void low_bit_scales(int threads, int64_t rows, int64_t columns, float lowest, float highest, int iterations,
                    float smallest, const float* weights, float* scales) {
  in_parallel(threads, rows, std::max<int64_t>(1, 16384 / columns), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++)
      for (int i = 0; i < iterations; i++) {
        const float before = scales[row];
        const float fitted = fitted_scale(weights + row * columns, columns, before, lowest, highest);
        if (fitted == 0) break;
        scales[row] = std::max(fitted, smallest);
        if (scales[row] == before) break;  // the iterations left would change nothing
      }
  });
}

// weights [count] in rows of `columns`, scales [rows]; words as many as the digits take.
void low_bit_pack(int threads, int bits, int64_t count, int64_t columns, const float* weights, const float* scales,
                  uint64_t* words) {
  for_bits(bits, [&](auto radix) { radix.pack(threads, count, columns, weights, scales, words); });
}

void low_bit_decode(int threads, int bits, int64_t count, int64_t columns, const uint64_t* words, const float* scales,
                    float* weights) {
  for_bits(bits, [&](auto radix) { radix.decode(threads, count, columns, words, scales, weights); });
}

}  // extern "C"
