// The compiled twin of hash_grid.py: trilinear look-ups in tables of several resolutions, forward and backward.

#include <cmath>

#include "in_parallel.hpp"

struct Level {
  int64_t resolution, first, size;  // cells a side; rows [first, first + size) of the table
};

// The eight corners around a point of the unit cube: rows of the table, and how far along each axis the point lies.
struct Corners {
  int64_t rows[8];
  float along[3];
};

static inline Corners corners_of(const float* point, const Level& level) {
  Corners c;
  uint32_t cell[3];
  const int64_t side = level.resolution + 1;
  for (int a = 0; a < 3; a++) {
    const float place = point[a] * level.resolution;
    const float low = std::min(std::max(0.0f, std::floor(place)), (float)(level.resolution - 1));  // 0 for NaN
    cell[a] = (uint32_t)low;
    c.along[a] = place - low;
  }
  const bool dense = side * side * side <= level.size;
  for (int k = 0; k < 8; k++) {
    const uint32_t x = cell[0] + (k & 1), y = cell[1] + (k >> 1 & 1), z = cell[2] + (k >> 2);
    const int64_t row = dense ? x + side * (y + side * (int64_t)z)
                              : (x ^ (y * 2654435761u) ^ (z * 805459861u)) & (uint32_t)(level.size - 1);
    c.rows[k] = level.first + row;
  }
  return c;
}

static inline float weight_of(const Corners& c, int k) {
  return (k & 1 ? c.along[0] : 1 - c.along[0]) * (k & 2 ? c.along[1] : 1 - c.along[1]) *
         (k & 4 ? c.along[2] : 1 - c.along[2]);
}

extern "C" {

// points [count, 3]; table [rows, features]; result [count, levels * features].
void hash_grid_forward(int threads, int64_t count, int levels, int features, const Level* level, const float* points,
                       const float* table, float* result) {
  in_parallel(threads, count, 512, [&](int64_t begin, int64_t end) {
    for (int l = 0; l < levels; l++)
      for (int64_t i = begin; i < end; i++) {
        float* out = result + (i * levels + l) * features;
        const Corners c = corners_of(points + 3 * i, level[l]);
        std::fill(out, out + features, 0.0f);
        for (int k = 0; k < 8; k++) {
          const float w = weight_of(c, k), *row = table + c.rows[k] * features;
          for (int f = 0; f < features; f++) out[f] += w * row[f];
        }
      }
  });
}

// Each level's rows are added by one thread in the order of the points, so that threads change no result.
void hash_grid_backward(int threads, int64_t count, int levels, int features, const Level* level, const float* points,
                        const float* table, const float* by_result, float* by_table, float* by_points) {
  in_parallel(threads, levels, 1, [&](int64_t l, int64_t) {
    for (int64_t i = 0; i < count; i++) {
      const float* by = by_result + (i * levels + l) * features;
      const Corners c = corners_of(points + 3 * i, level[l]);
      for (int k = 0; k < 8; k++) {
        const float w = weight_of(c, k);
        float* row = by_table + c.rows[k] * features;
        for (int f = 0; f < features; f++) row[f] += w * by[f];
      }
    }
  });
  if (!by_points) return;
  in_parallel(threads, count, 512, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      float slope[3] = {};
      for (int l = 0; l < levels; l++) {
        const float* by = by_result + (i * levels + l) * features;
        const Corners c = corners_of(points + 3 * i, level[l]);
        float value[8];
        for (int k = 0; k < 8; k++) {
          const float* row = table + c.rows[k] * features;
          value[k] = 0;
          for (int f = 0; f < features; f++) value[k] += row[f] * by[f];
        }
        for (int a = 0; a < 3; a++) {
          const int bit = 1 << a, u = (a + 1) % 3, v = (a + 2) % 3;
          float difference = 0;
          for (int k = 0; k < 8; k++) {
            if (k & bit) continue;
            const float w = (k >> u & 1 ? c.along[u] : 1 - c.along[u]) * (k >> v & 1 ? c.along[v] : 1 - c.along[v]);
            difference += w * (value[k | bit] - value[k]);
          }
          slope[a] += difference * level[l].resolution;
        }
      }
      for (int a = 0; a < 3; a++) by_points[3 * i + a] = slope[a];
    }
  });
}

}  // extern "C"
