// Rotations as unit quaternions [w, x, y, z], and vectors [x, y, z], as `pipelines/motion/rotations.py` has them.

const OPPOSITE = 1e-6; // length of the sum of two unit directions below which they count as opposite

export function minus(first, second) {
  return first.map((value, axis) => value - second[axis]);
}

export function dot(first, second) {
  return first.reduce((sum, value, axis) => sum + value * second[axis], 0);
}

export function cross([a, b, c], [x, y, z]) {
  return [b * z - c * y, c * x - a * z, a * y - b * x];
}

/** In the same direction with length 1; 0 stays. */
export function unit(vector) {
  const length = Math.max(Math.hypot(...vector), 1e-12);
  return vector.map((value) => value / length);
}

/** The rotation `before`, then the rotation `after`. */
export function product([w, x, y, z], [a, b, c, d]) {
  return [
    w * a - x * b - y * c - z * d,
    w * b + x * a + y * d - z * c,
    w * c - x * d + y * a + z * b,
    w * d + x * c - y * b + z * a,
  ];
}

export function inverse([w, x, y, z]) {
  return [w, -x, -y, -z];
}

/** A vector turned. */
export function rotated(vector, [w, ...axis]) {
  const crossed = cross(axis, vector).map((value) => 2 * value);
  const again = cross(axis, crossed);
  return vector.map((value, i) => value + w * crossed[i] + again[i]);
}

/** The smallest rotation that turns one direction into another; of opposite ones, a half turn about some axis. */
export function shortestArc(from, to) {
  const [start, end] = [unit(from), unit(to)];
  const total = start.map((value, axis) => value + end[axis]);
  if (Math.hypot(...total) >= OPPOSITE) return unit([dot(total, total) / 2, ...cross(start, total)]);
  const sizes = start.map(Math.abs);
  const least = sizes.indexOf(Math.min(...sizes));
  return unit([0, ...cross(start, [0, 1, 2].map((axis) => Number(axis === least)))]);
}

/** Part of the way from one rotation to another. */
export function between(first, second, share) {
  const sign = dot(first, second) < 0 ? -1 : 1;
  return unit(first.map((value, i) => value + share * (sign * second[i] - value)));
}

/** Of a matrix's columns, the axes of a frame that is turned. */
export function ofAxes(x, y, z) {
  const squares = [1 + x[0] + y[1] + z[2], 1 + x[0] - y[1] - z[2], 1 - x[0] + y[1] - z[2], 1 - x[0] - y[1] + z[2]];
  const [a, b, c] = [y[2] - z[1], z[0] - x[2], x[1] - y[0]];
  const [d, e, f] = [x[1] + y[0], z[0] + x[2], y[2] + z[1]];
  const rows = [[squares[0], a, b, c], [a, squares[1], d, e], [b, d, squares[2], f], [c, e, f, squares[3]]];
  return unit(rows[squares.indexOf(Math.max(...squares))]);
}

/** Rows of the rotation's matrix. */
export function matrixOf([w, x, y, z]) {
  return [
    [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
    [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
    [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
  ];
}
