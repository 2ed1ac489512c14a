// The compiled twin of gaussian_rasterizer.py: projection, binning and compositing, forward and backward.
//
// All arrays are contiguous float32 unless a name says otherwise; rows of `splats` are the projected Gaussians:
enum Column { MEAN_X, MEAN_Y, CONIC_A, CONIC_B, CONIC_C, OPACITY, RED, GREEN, BLUE, DEPTH, EXTENT_X, EXTENT_Y, COLUMNS };
// and rows of a gradient with respect to them are the first ten of these.
constexpr int GRADIENTS = EXTENT_X;

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "../layers/in_parallel.hpp"

constexpr int TILE = 16;                // pixels a side
constexpr int LANES = 8;                // pixels of a row at once
constexpr int BLOCKS = TILE / LANES;
constexpr float MAX_ALPHA = 0.999f;
constexpr float MIN_ALPHA = 1.0f / 255;
constexpr float MIN_TRANSMITTANCE = 1e-4f;

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));

static inline Floats all(float value) { return value - Floats{}; }
static inline float sum(Floats v) { return ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7])); }
static inline bool any(Ints v) {
  typedef int64_t Longs __attribute__((vector_size(4 * LANES)));
  Longs w = (Longs)v;
  return (w[0] | w[1] | w[2] | w[3]) != 0;
}

// exp(x) for x in [-87, 0], to 2e-7 of its value: 2^n by the exponent's bits, 2^f by a polynomial.
static inline Floats exp_of_negative(Floats x) {
  Floats t = x * 1.44269504088896f;
  Floats shifted = t + 12582912.0f;  // 1.5 * 2^23: rounds to the nearest integer
  Floats f = t - (shifted - 12582912.0f);
  Ints n = (Ints)shifted << 23;
  Floats p = f * 1.5403530393381609e-4f + 1.3333558146428443e-3f;
  p = p * f + 9.6181291076284772e-3f;
  p = p * f + 5.5504108664821580e-2f;
  p = p * f + 2.4022650695910072e-1f;
  p = p * f + 6.9314718055994531e-1f;
  p = p * f + 1.0f;
  return (Floats)((Ints)p + n);
}

struct Camera {
  float rotation[9], translation[3], center[3];  // world to camera; center in the world
  float fx, fy, cx, cy;
  int width, height;
  float near, blur;  // blur: variance in pixels that is added to every projected Gaussian
  int antialias;
};

struct Scene {
  int64_t count;
  int coefficients;
  const float *means, *log_scales, *quaternions, *opacity_logits, *sh;
};

// What both directions of the projection need of one Gaussian.
struct Projection {
  float p[3];               // in camera axes
  float unit[4], norm;      // quaternion
  float R[9], s[3];         // rotation, standard deviations
  float J[4], inside_x, inside_y, lim_x, lim_y;  // J00 J02 J11 J12
  float M[6], T[6];         // J W, and J W R S
  float a0, b0, c0, det0, det, compensation, sigmoid;
  bool visible;
};

static Projection project(const Scene& scene, const Camera& camera, int64_t i) {
  Projection g;
  g.visible = false;
  const float *mean = scene.means + 3 * i, *W = camera.rotation;
  for (int r = 0; r < 3; r++)
    g.p[r] = W[3 * r] * mean[0] + W[3 * r + 1] * mean[1] + W[3 * r + 2] * mean[2] + camera.translation[r];
  const float x = g.p[0], y = g.p[1], z = g.p[2];
  if (!(z >= camera.near)) return g;
  g.sigmoid = 1 / (1 + std::exp(-scene.opacity_logits[i]));
  if (!(g.sigmoid >= MIN_ALPHA)) return g;

  const float* q = scene.quaternions + 4 * i;
  g.norm = std::max(std::sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]), 1e-12f);
  for (int k = 0; k < 4; k++) g.unit[k] = q[k] / g.norm;
  const float w = g.unit[0], i_ = g.unit[1], j = g.unit[2], k = g.unit[3];
  const float R[9] = {1 - 2 * (j * j + k * k), 2 * (i_ * j - w * k), 2 * (i_ * k + w * j),
                      2 * (i_ * j + w * k), 1 - 2 * (i_ * i_ + k * k), 2 * (j * k - w * i_),
                      2 * (i_ * k - w * j), 2 * (j * k + w * i_), 1 - 2 * (i_ * i_ + j * j)};
  std::memcpy(g.R, R, sizeof R);
  for (int c = 0; c < 3; c++) g.s[c] = std::exp(scene.log_scales[3 * i + c]);

  // The affine approximation of the projection, taken no further than 0.15 of the picture beyond its border.
  const float margin_x = 0.15f * camera.width / camera.fx, margin_y = 0.15f * camera.height / camera.fy;
  const float ratio_x = x / z, ratio_y = y / z;
  g.lim_x = std::min(std::max(ratio_x, -camera.cx / camera.fx - margin_x),
                     (camera.width - camera.cx) / camera.fx + margin_x);
  g.lim_y = std::min(std::max(ratio_y, -camera.cy / camera.fy - margin_y),
                     (camera.height - camera.cy) / camera.fy + margin_y);
  g.inside_x = g.lim_x == ratio_x;
  g.inside_y = g.lim_y == ratio_y;
  g.J[0] = camera.fx / z;
  g.J[1] = -camera.fx * g.lim_x / z;
  g.J[2] = camera.fy / z;
  g.J[3] = -camera.fy * g.lim_y / z;
  for (int c = 0; c < 3; c++) {
    g.M[c] = g.J[0] * W[c] + g.J[1] * W[6 + c];
    g.M[3 + c] = g.J[2] * W[3 + c] + g.J[3] * W[6 + c];
  }
  for (int r = 0; r < 2; r++)
    for (int c = 0; c < 3; c++)
      g.T[3 * r + c] = g.s[c] * (g.M[3 * r] * R[c] + g.M[3 * r + 1] * R[3 + c] + g.M[3 * r + 2] * R[6 + c]);
  const float* T = g.T;
  g.a0 = T[0] * T[0] + T[1] * T[1] + T[2] * T[2];
  g.b0 = T[0] * T[3] + T[1] * T[4] + T[2] * T[5];
  g.c0 = T[3] * T[3] + T[4] * T[4] + T[5] * T[5];
  // The determinant by minors of T: a0 * c0 - b0 * b0 cancels for needles.
  const float m0 = T[0] * T[4] - T[1] * T[3], m1 = T[0] * T[5] - T[2] * T[3], m2 = T[1] * T[5] - T[2] * T[4];
  g.det0 = m0 * m0 + m1 * m1 + m2 * m2;
  g.det = g.det0 + camera.blur * (g.a0 + g.c0) + camera.blur * camera.blur;
  g.compensation = camera.antialias ? std::sqrt(g.det0 / g.det) : 1;
  g.visible = g.det > 0 && std::isfinite(g.det);
  return g;
}

// Values and, where wanted, derivatives of the spherical harmonics' basis.
static void basis(int coefficients, const float* d, float* value, float (*slope)[3]) {
  const float x = d[0], y = d[1], z = d[2], xx = x * x, yy = y * y, zz = z * z;
  auto set = [&](int k, float constant, float v, float dx, float dy, float dz) {
    value[k] = constant * v;
    if (slope) slope[k][0] = constant * dx, slope[k][1] = constant * dy, slope[k][2] = constant * dz;
  };
  set(0, 0.28209479177387814f, 1, 0, 0, 0);
  if (coefficients < 4) return;
  set(1, -0.4886025119029199f, y, 0, 1, 0);
  set(2, 0.4886025119029199f, z, 0, 0, 1);
  set(3, -0.4886025119029199f, x, 1, 0, 0);
  if (coefficients < 9) return;
  set(4, 1.0925484305920792f, x * y, y, x, 0);
  set(5, -1.0925484305920792f, y * z, 0, z, y);
  set(6, 0.31539156525252005f, 2 * zz - xx - yy, -2 * x, -2 * y, 4 * z);
  set(7, -1.0925484305920792f, x * z, z, 0, x);
  set(8, 0.5462742152960396f, xx - yy, 2 * x, -2 * y, 0);
  if (coefficients < 16) return;
  set(9, -0.5900435899266435f, y * (3 * xx - yy), 6 * x * y, 3 * (xx - yy), 0);
  set(10, 2.890611442640554f, x * y * z, y * z, x * z, x * y);
  set(11, -0.4570457994644658f, y * (4 * zz - xx - yy), -2 * x * y, 4 * zz - xx - 3 * yy, 8 * y * z);
  set(12, 0.3731763325901154f, z * (2 * zz - 3 * xx - 3 * yy), -6 * x * z, -6 * y * z, 6 * zz - 3 * xx - 3 * yy);
  set(13, -0.4570457994644658f, x * (4 * zz - xx - yy), 4 * zz - 3 * xx - yy, -2 * x * y, 8 * x * z);
  set(14, 1.445305721320277f, z * (xx - yy), 2 * x * z, -2 * y * z, xx - yy);
  set(15, -0.5900435899266435f, x * (xx - 3 * yy), 3 * (xx - yy), -6 * x * y, 0);
}

struct View {
  float direction[3], distance;
};

static View view_of(const Scene& scene, const Camera& camera, int64_t i) {
  View view;
  float squared = 0;
  for (int k = 0; k < 3; k++) {
    view.direction[k] = scene.means[3 * i + k] - camera.center[k];
    squared += view.direction[k] * view.direction[k];
  }
  view.distance = std::max(std::sqrt(squared), 1e-12f);
  for (int k = 0; k < 3; k++) view.direction[k] /= view.distance;
  return view;
}

struct TileRange {
  int x0, y0, x1, y1;
};

static TileRange tiles_of(const float* splat, int width, int height) {
  auto tile = [](float pixel, int size) {
    const int tiles = (size + TILE - 1) / TILE;
    return (int)std::min(std::max(std::floor(pixel / TILE), 0.0f), (float)tiles);
  };
  if (!(splat[OPACITY] > 0)) return {0, 0, 0, 0};
  return {tile(splat[MEAN_X] - splat[EXTENT_X], width), tile(splat[MEAN_Y] - splat[EXTENT_Y], height),
          tile(splat[MEAN_X] + splat[EXTENT_X] + TILE, width), tile(splat[MEAN_Y] + splat[EXTENT_Y] + TILE, height)};
}

extern "C" {

// Projects all Gaussians; one that cannot be seen gets opacity 0. Returns how often a Gaussian meets a tile.
int64_t project_forward(int threads, const Scene* scene, const Camera* camera, const float* offsets, float* splats) {
  std::atomic<int64_t> total{0};
  in_parallel(threads, scene->count, 2048, [&](int64_t begin, int64_t end) {
    int64_t meetings = 0;
    for (int64_t i = begin; i < end; i++) {
      float* splat = splats + COLUMNS * i;
      const Projection g = project(*scene, *camera, i);
      std::fill(splat, splat + COLUMNS, 0.0f);
      if (!g.visible) continue;
      const float opacity = g.sigmoid * g.compensation;
      if (!(opacity >= MIN_ALPHA)) continue;
      const float a = g.a0 + camera->blur, c = g.c0 + camera->blur;
      const float reach = std::sqrt(2 * std::log(opacity / MIN_ALPHA));
      splat[MEAN_X] = camera->fx * g.p[0] / g.p[2] + camera->cx + (offsets ? offsets[2 * i] : 0);
      splat[MEAN_Y] = camera->fy * g.p[1] / g.p[2] + camera->cy + (offsets ? offsets[2 * i + 1] : 0);
      splat[CONIC_A] = c / g.det;
      splat[CONIC_B] = -g.b0 / g.det;
      splat[CONIC_C] = a / g.det;
      splat[DEPTH] = g.p[2];
      splat[EXTENT_X] = reach * std::sqrt(a);
      splat[EXTENT_Y] = reach * std::sqrt(c);
      splat[OPACITY] = opacity;
      const TileRange t = tiles_of(splat, camera->width, camera->height);
      if (t.x0 >= t.x1 || t.y0 >= t.y1) {
        splat[OPACITY] = 0;
        continue;
      }
      meetings += (int64_t)(t.x1 - t.x0) * (t.y1 - t.y0);
      float value[16];
      basis(scene->coefficients, view_of(*scene, *camera, i).direction, value, nullptr);
      const float* sh = scene->sh + 3 * (int64_t)scene->coefficients * i;
      for (int channel = 0; channel < 3; channel++) {
        float color = 0.5f;
        for (int k = 0; k < scene->coefficients; k++) color += value[k] * sh[3 * k + channel];
        splat[RED + channel] = std::max(color, 0.0f);
      }
    }
    total += meetings;
  });
  return total;
}

// Lists the Gaussians of each tile from near to far: tile t has members[starts[t] .. starts[t + 1]). Gaussian i's
// meetings lie at slots[firsts[i] .. firsts[i + 1]), which say where in `members` they are.
void bin_splats(int64_t count, int width, int height, const float* splats, int32_t* members, int32_t* slots,
                int64_t* starts, int64_t* firsts) {
  const int columns = (width + TILE - 1) / TILE, rows = (height + TILE - 1) / TILE;
  std::vector<std::pair<uint32_t, int32_t>> order, other;
  order.reserve(count);
  std::vector<TileRange> ranges(count);
  std::fill(starts, starts + columns * rows + 1, 0);
  firsts[0] = 0;
  for (int64_t i = 0; i < count; i++) {
    const TileRange t = ranges[i] = tiles_of(splats + COLUMNS * i, width, height);
    const bool seen = t.x0 < t.x1 && t.y0 < t.y1;
    firsts[i + 1] = firsts[i] + (seen ? (int64_t)(t.x1 - t.x0) * (t.y1 - t.y0) : 0);
    if (!seen) continue;
    uint32_t key;
    std::memcpy(&key, splats + COLUMNS * i + DEPTH, 4);  // positive floats sort as their bits do
    order.emplace_back(key, (int32_t)i);
    for (int y = t.y0; y < t.y1; y++)
      for (int x = t.x0; x < t.x1; x++) starts[y * columns + x + 1]++;
  }
  other.resize(order.size());
  for (int shift = 0; shift < 32; shift += 11) {  // radix sort, which keeps the order of equal depths
    int64_t places[2049] = {0};
    for (auto& entry : order) places[((entry.first >> shift) & 2047) + 1]++;
    for (int k = 0; k < 2048; k++) places[k + 1] += places[k];
    for (auto& entry : order) other[places[(entry.first >> shift) & 2047]++] = entry;
    order.swap(other);
  }
  for (int t = 0; t < columns * rows; t++) starts[t + 1] += starts[t];
  std::vector<int64_t> next(starts, starts + columns * rows);
  for (auto& entry : order) {
    const int32_t i = entry.second;
    int32_t* slot = slots + firsts[i];
    const TileRange t = ranges[i];
    for (int y = t.y0; y < t.y1; y++)
      for (int x = t.x0; x < t.x1; x++) {
        const int64_t place = next[y * columns + x]++;
        members[place] = i;
        *slot++ = (int32_t)place;
      }
  }
}

}  // extern "C"

// Pixels of a tile that a Gaussian may touch: rows [y0, y1) and blocks of lanes [block0, block1).
struct Touched {
  int y0, y1, block0, block1;
};

static inline Touched touched_by(const float* splat, int left, int top) {
  auto clamp = [](float value) { return (int)std::min(std::max(value, 0.0f), (float)TILE); };
  const int x0 = clamp(std::ceil(splat[MEAN_X] - splat[EXTENT_X] - 0.5f - left));
  const int x1 = clamp(std::floor(splat[MEAN_X] + splat[EXTENT_X] - 0.5f - left) + 1);
  return {clamp(std::ceil(splat[MEAN_Y] - splat[EXTENT_Y] - 0.5f - top)),
          clamp(std::floor(splat[MEAN_Y] + splat[EXTENT_Y] - 0.5f - top) + 1), x0 / LANES,
          x1 > x0 ? (x1 + LANES - 1) / LANES : 0};
}

// One Gaussian at one block of pixels, the same forward and backward.
struct Blend {
  Floats dx, gauss, alpha, transmittance_after;
  Ints adds;  // lanes that it is added to
};

static inline Blend blend(const float* splat, Floats dx, float dy, Floats transmittance, Ints& live) {
  Blend b;
  b.dx = dx;
  const Floats power =
      -0.5f * (splat[CONIC_A] * dx * dx + splat[CONIC_C] * dy * dy) - (splat[CONIC_B] * dy) * dx;
  b.gauss = exp_of_negative(power < -80.0f ? all(-80.0f) : (power > 0.0f ? all(0.0f) : power));
  const Floats alpha = splat[OPACITY] * b.gauss;
  b.alpha = alpha > MAX_ALPHA ? all(MAX_ALPHA) : alpha;
  b.adds = live & (b.alpha >= MIN_ALPHA);
  b.transmittance_after = transmittance * (1.0f - b.alpha);
  const Ints ends = b.adds & (b.transmittance_after <= MIN_TRANSMITTANCE);  // such a Gaussian is left out
  live &= ~ends;
  b.adds &= ~ends;
  return b;
}

static const Floats LANE = {0, 1, 2, 3, 4, 5, 6, 7};
constexpr int LOOK = 16;  // Gaussians between two looks at whether a tile is done

// Transmittance and life of the pixels of a tile.
struct TileState {
  Floats transmittance[TILE][BLOCKS];
  Ints live[TILE][BLOCKS];
  TileState(int left, int top, int width, int height) {
    for (int y = 0; y < TILE; y++)
      for (int b = 0; b < BLOCKS; b++) {
        transmittance[y][b] = all(1);
        live[y][b] = (LANE + (float)(left + LANES * b) < all((float)width)) & (all((float)(top + y)) < all((float)height));
      }
  }
  bool done() const {
    Ints rest{};
    for (int y = 0; y < TILE; y++)
      for (int b = 0; b < BLOCKS; b++) rest |= live[y][b];
    return !any(rest);
  }
};

extern "C" {

// planes: red, green, blue (without background), depth times weight, and alpha, each [height, width].
void composite_forward(int threads, int width, int height, const float* splats, const int32_t* members,
                       const int64_t* starts, float* planes) {
  const int columns = (width + TILE - 1) / TILE, rows = (height + TILE - 1) / TILE;
  const int64_t area = (int64_t)width * height;
  in_parallel(threads, columns * rows, 1, [&](int64_t tile, int64_t) {
    const int left = tile % columns * TILE, top = tile / columns * TILE;
    TileState state(left, top, width, height);
    Floats sums[4][TILE][BLOCKS] = {};
    for (int64_t m = starts[tile]; m < starts[tile + 1]; m++) {
      if ((m - starts[tile]) % LOOK == LOOK - 1 && state.done()) break;
      const float* splat = splats + COLUMNS * (int64_t)members[m];
      const Touched touched = touched_by(splat, left, top);
      for (int y = touched.y0; y < touched.y1; y++) {
        const float dy = top + y + 0.5f - splat[MEAN_Y];
        for (int k = touched.block0; k < touched.block1; k++) {
          const Floats dx = LANE + (left + LANES * k + 0.5f - splat[MEAN_X]);
          Floats& T = state.transmittance[y][k];
          const Blend b = blend(splat, dx, dy, T, state.live[y][k]);
          const Floats weight = b.adds ? b.alpha * T : Floats{};
          for (int c = 0; c < 4; c++) sums[c][y][k] += weight * splat[RED + c];
          T = b.adds ? b.transmittance_after : T;
        }
      }
    }
    for (int y = 0; y < std::min(TILE, height - top); y++)
      for (int x = 0; x < std::min(TILE, width - left); x++) {
        const int64_t pixel = (int64_t)(top + y) * width + left + x;
        for (int c = 0; c < 4; c++) planes[c * area + pixel] = sums[c][y][x / LANES][x % LANES];
        planes[4 * area + pixel] = 1 - state.transmittance[y][x / LANES][x % LANES];
      }
  });
}

// Gradients of the projected Gaussians from those of the planes. With w_i = alpha_i T_i and s_i the gradient of the loss
// by w_i, dL/dalpha_i = T_i s_i - (sum over j > i of w_j s_j) / (1 - alpha_i); that sum is what planes and gradients
// give for the whole pixel less what lies in front, so one walk from near to far suffices, as in the forward direction.
// `scratch` holds GRADIENTS floats a meeting; each Gaussian's rows are then added in one order, whatever the threads.
void composite_backward(int threads, int64_t count, int width, int height, const float* splats, const int32_t* members,
                        const int32_t* slots, const int64_t* starts, const int64_t* firsts, const float* planes,
                        const float* plane_gradients, float* scratch, float* splat_gradients) {
  const int columns = (width + TILE - 1) / TILE, rows = (height + TILE - 1) / TILE;
  const int64_t area = (int64_t)width * height;
  in_parallel(threads, columns * rows, 1, [&](int64_t tile, int64_t) {
    const int left = tile % columns * TILE, top = tile / columns * TILE;
    TileState state(left, top, width, height);
    Floats wanted[5][TILE][BLOCKS] = {}, behind[TILE][BLOCKS] = {};
    for (int y = 0; y < std::min(TILE, height - top); y++)
      for (int x = 0; x < std::min(TILE, width - left); x++) {
        const int64_t pixel = (int64_t)(top + y) * width + left + x;
        float total = 0;
        for (int c = 0; c < 5; c++) {
          const float gradient = plane_gradients[c * area + pixel];
          wanted[c][y][x / LANES][x % LANES] = gradient;
          total += gradient * planes[c * area + pixel];
        }
        behind[y][x / LANES][x % LANES] = total;
      }
    int64_t m = starts[tile];
    for (; m < starts[tile + 1]; m++) {
      if ((m - starts[tile]) % LOOK == LOOK - 1 && state.done()) break;
      const float* splat = splats + COLUMNS * (int64_t)members[m];
      const Touched touched = touched_by(splat, left, top);
      Floats sums[GRADIENTS] = {};
      for (int y = touched.y0; y < touched.y1; y++) {
        const float dy = top + y + 0.5f - splat[MEAN_Y];
        for (int k = touched.block0; k < touched.block1; k++) {
          const Floats dx = LANE + (left + LANES * k + 0.5f - splat[MEAN_X]);
          Floats& T = state.transmittance[y][k];
          const Blend b = blend(splat, dx, dy, T, state.live[y][k]);
          if (!any(b.adds)) continue;
          const Floats weight = b.adds ? b.alpha * T : Floats{};
          Floats s = wanted[4][y][k];
          for (int c = 0; c < 4; c++) {
            s += wanted[c][y][k] * splat[RED + c];
            sums[RED + c] += weight * wanted[c][y][k];
          }
          behind[y][k] -= weight * s;
          const Floats by_alpha = T * s - behind[y][k] / (1.0f - b.alpha);
          // A clamped alpha does not move with its Gaussian.
          const Floats by_gauss = (b.adds & (splat[OPACITY] * b.gauss <= MAX_ALPHA)) ? by_alpha * b.gauss : Floats{};
          const Floats by_power = by_gauss * splat[OPACITY];
          sums[OPACITY] += by_gauss;
          sums[CONIC_A] -= 0.5f * by_power * dx * dx;
          sums[CONIC_B] -= by_power * dx * dy;
          sums[CONIC_C] -= 0.5f * by_power * dy * dy;
          sums[MEAN_X] += by_power * (splat[CONIC_A] * dx + splat[CONIC_B] * dy);
          sums[MEAN_Y] += by_power * (splat[CONIC_B] * dx + splat[CONIC_C] * dy);
          T = b.adds ? b.transmittance_after : T;
        }
      }
      for (int c = 0; c < GRADIENTS; c++) scratch[GRADIENTS * m + c] = sum(sums[c]);
    }
    std::fill(scratch + GRADIENTS * m, scratch + GRADIENTS * starts[tile + 1], 0.0f);
  });
  in_parallel(threads, count, 4096, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      float* gradient = splat_gradients + GRADIENTS * i;
      std::fill(gradient, gradient + GRADIENTS, 0.0f);
      for (int64_t k = firsts[i]; k < firsts[i + 1]; k++)
        for (int c = 0; c < GRADIENTS; c++) gradient[c] += scratch[GRADIENTS * (int64_t)slots[k] + c];
    }
  });
}

// Adds to the gradients of the scene's Gaussians what those of their projections give.
void project_backward(int threads, const Scene* scene, const Camera* camera, const float* splats,
                      const float* splat_gradients, float* by_means, float* by_log_scales, float* by_quaternions,
                      float* by_opacity_logits, float* by_sh) {
  in_parallel(threads, scene->count, 2048, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const float *splat = splats + COLUMNS * i, *by = splat_gradients + GRADIENTS * i, *W = camera->rotation;
      if (!(splat[OPACITY] > 0)) continue;
      const Projection g = project(*scene, *camera, i);
      const float z = g.p[2];
      float by_p[3] = {}, by_mean[3] = {};

      // Colour: coefficients, and the direction of view.
      const View view = view_of(*scene, *camera, i);
      float value[16], slope[16][3], by_direction[3] = {};
      basis(scene->coefficients, view.direction, value, slope);
      const int64_t row = 3 * (int64_t)scene->coefficients * i;
      for (int channel = 0; channel < 3; channel++) {
        if (!(splat[RED + channel] > 0)) continue;
        const float gradient = by[RED + channel];
        for (int k = 0; k < scene->coefficients; k++) {
          by_sh[row + 3 * k + channel] += gradient * value[k];
          for (int a = 0; a < 3; a++) by_direction[a] += gradient * scene->sh[row + 3 * k + channel] * slope[k][a];
        }
      }
      if (scene->coefficients > 1) {
        float along = 0;
        for (int a = 0; a < 3; a++) along += by_direction[a] * view.direction[a];
        for (int a = 0; a < 3; a++) by_mean[a] += (by_direction[a] - along * view.direction[a]) / view.distance;
      }

      // Inverse of the covariance: dS = -C dC C, with the off-diagonal entry standing for two.
      const float A = splat[CONIC_A], B = splat[CONIC_B], C = splat[CONIC_C];
      const float gA = by[CONIC_A], gB = by[CONIC_B] / 2, gC = by[CONIC_C];
      const float u0 = A * gA + B * gB, u1 = A * gB + B * gC, v0 = B * gA + C * gB, v1 = B * gB + C * gC;
      float by_a = -(u0 * A + u1 * B), by_b = -2 * (u0 * B + u1 * C), by_c = -(v0 * B + v1 * C);

      // Opacity, with the compensation sqrt(det0 / det) of antialiasing.
      by_opacity_logits[i] += by[OPACITY] * g.compensation * g.sigmoid * (1 - g.sigmoid);
      if (camera->antialias) {
        const float by_ratio = by[OPACITY] * g.sigmoid * 0.5f / g.compensation;
        const float by_det0 = by_ratio / g.det, by_det = -by_ratio * g.det0 / (g.det * g.det);
        by_a += by_det0 * g.c0 + by_det * (g.c0 + camera->blur);
        by_c += by_det0 * g.a0 + by_det * (g.a0 + camera->blur);
        by_b -= 2 * g.b0 * (by_det0 + by_det);
      }

      // Covariance T T^t with T = M R S and M = J W.
      float by_T[6], by_M[6] = {}, by_R[9] = {};
      for (int c = 0; c < 3; c++) {
        by_T[c] = 2 * by_a * g.T[c] + by_b * g.T[3 + c];
        by_T[3 + c] = 2 * by_c * g.T[3 + c] + by_b * g.T[c];
      }
      for (int r = 0; r < 3; r++)
        for (int c = 0; c < 3; c++) {
          const float V = g.R[3 * r + c] * g.s[c];
          by_M[r] += by_T[c] * V;
          by_M[3 + r] += by_T[3 + c] * V;
          const float by_V = g.M[r] * by_T[c] + g.M[3 + r] * by_T[3 + c];
          by_R[3 * r + c] = by_V * g.s[c];
          by_log_scales[3 * i + c] += by_V * V;
        }
      float by_J[4] = {};
      for (int c = 0; c < 3; c++) {
        by_J[0] += by_M[c] * W[c];
        by_J[1] += by_M[c] * W[6 + c];
        by_J[2] += by_M[3 + c] * W[3 + c];
        by_J[3] += by_M[3 + c] * W[6 + c];
      }
      by_p[2] -= (camera->fx * by_J[0] + camera->fy * by_J[2]) / (z * z);
      by_p[2] += (camera->fx * g.lim_x * by_J[1] + camera->fy * g.lim_y * by_J[3]) / (z * z);
      if (g.inside_x) {  // lim_x = x / z
        by_p[0] -= camera->fx / (z * z) * by_J[1];
        by_p[2] += camera->fx * g.lim_x / (z * z) * by_J[1];
      }
      if (g.inside_y) {
        by_p[1] -= camera->fy / (z * z) * by_J[3];
        by_p[2] += camera->fy * g.lim_y / (z * z) * by_J[3];
      }

      // Centre and depth.
      by_p[0] += camera->fx / z * by[MEAN_X];
      by_p[1] += camera->fy / z * by[MEAN_Y];
      by_p[2] += by[DEPTH] - (camera->fx * g.p[0] * by[MEAN_X] + camera->fy * g.p[1] * by[MEAN_Y]) / (z * z);
      for (int a = 0; a < 3; a++)
        by_means[3 * i + a] += by_mean[a] + W[a] * by_p[0] + W[3 + a] * by_p[1] + W[6 + a] * by_p[2];

      // Rotation by the unit quaternion, then its norm.
      const float w = g.unit[0], x = g.unit[1], y = g.unit[2], k = g.unit[3], *G = by_R;
      const float by_unit[4] = {
          2 * (-k * G[1] + y * G[2] + k * G[3] - x * G[5] - y * G[6] + x * G[7]),
          2 * (y * G[1] + k * G[2] + y * G[3] - 2 * x * G[4] - w * G[5] + k * G[6] + w * G[7] - 2 * x * G[8]),
          2 * (-2 * y * G[0] + x * G[1] + w * G[2] + x * G[3] + k * G[5] - w * G[6] + k * G[7] - 2 * y * G[8]),
          2 * (-2 * k * G[0] - w * G[1] + x * G[2] + w * G[3] - 2 * k * G[4] + y * G[5] + x * G[6] + y * G[7])};
      float along = 0;
      for (int a = 0; a < 4; a++) along += by_unit[a] * g.unit[a];
      for (int a = 0; a < 4; a++) by_quaternions[4 * i + a] += (by_unit[a] - along * g.unit[a]) / g.norm;
    }
  });
}

}  // extern "C"
