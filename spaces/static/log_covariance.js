// A Gaussian's scales and rotation from half the logarithm of its covariance: hub_models/rendering/log_covariance.py.

const SWEEPS = 12; // Jacobi's method converges quadratically: five suffice as a rule
const PAIRS = [[0, 1], [0, 2], [1, 2]];
const [R2, R3, R6] = [2, 3, 6].map(Math.sqrt);

/**
 * Log scales in ascending order and a unit quaternion w x y z. Of the four rotations that turn an ellipsoid into
 * itself any may come out.
 * @param {ArrayLike<number>} c six coefficients in the orthonormal basis of log_covariance.py.
 * @returns {{logScales: number[], quaternion: number[]}}
 */
export function scalesAndRotation(c) {
  const matrix = [
    [c[0] / R3 - c[1] / R6 + c[2] / R2, c[3] / R2, c[5] / R2],
    [c[3] / R2, c[0] / R3 + (2 * c[1]) / R6, c[4] / R2],
    [c[5] / R2, c[4] / R2, c[0] / R3 - c[1] / R6 - c[2] / R2],
  ];
  const axes = diagonalise(matrix);
  const order = [0, 1, 2].sort((one, other) => matrix[one][one] - matrix[other][other]);
  const rotation = axes.map((row) => order.map((column) => row[column]));
  if (determinant(rotation) < 0) rotation.forEach((row) => (row[0] = -row[0]));
  return { logScales: order.map((i) => matrix[i][i]), quaternion: quaternionOf(rotation) };
}

/** Jacobi's method: makes a symmetric matrix diagonal in place and returns the axes as columns. */
function diagonalise(matrix) {
  const axes = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const off = Math.abs(matrix[0][1]) + Math.abs(matrix[0][2]) + Math.abs(matrix[1][2]);
    if (off === 0) break;
    for (const pair of PAIRS) if (matrix[pair[0]][pair[1]] !== 0) rotate(matrix, axes, pair[0], pair[1]);
  }
  return axes;
}

/** Turns in the plane of axes p and q so that matrix[p][q] becomes 0. */
function rotate(matrix, axes, p, q) {
  const ratio = (matrix[q][q] - matrix[p][p]) / (2 * matrix[p][q]);
  const tangent = (ratio < 0 ? -1 : 1) / (Math.abs(ratio) + Math.sqrt(ratio * ratio + 1));
  const cosine = 1 / Math.sqrt(tangent * tangent + 1);
  const sine = tangent * cosine;
  const other = 3 - p - q;
  const op = matrix[other][p];
  const oq = matrix[other][q];
  matrix[p][p] -= tangent * matrix[p][q];
  matrix[q][q] += tangent * matrix[p][q];
  matrix[p][q] = matrix[q][p] = 0;
  matrix[other][p] = matrix[p][other] = cosine * op - sine * oq;
  matrix[other][q] = matrix[q][other] = sine * op + cosine * oq;
  for (let i = 0; i < 3; i++) {
    const along = axes[i][p];
    axes[i][p] = cosine * along - sine * axes[i][q];
    axes[i][q] = sine * along + cosine * axes[i][q];
  }
}

function determinant([a, b, c]) {
  return (
    a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0]) + a[2] * (b[0] * c[1] - b[1] * c[0])
  );
}

/** Row k of `products` is the quaternion times four times its k-th component; the largest of these is exact. */
function quaternionOf([[xx, xy, xz], [yx, yy, yz], [zx, zy, zz]]) {
  const products = [
    [1 + xx + yy + zz, zy - yz, xz - zx, yx - xy],
    [zy - yz, 1 + xx - yy - zz, yx + xy, xz + zx],
    [xz - zx, yx + xy, 1 - xx + yy - zz, zy + yz],
    [yx - xy, xz + zx, zy + yz, 1 - xx - yy + zz],
  ];
  const exact = products.reduce((best, row, k) => (row[k] > products[best][best] ? k : best), 0);
  const row = products[exact];
  const length = Math.hypot(...row) * (row[0] < 0 ? -1 : 1);
  return row.map((component) => component / length);
}
