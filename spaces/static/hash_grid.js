// Features of points of the unit cube, looked up in tables of several resolutions: hub_models/layers/hash_grid.py.

const PRIMES = [1, 2654435761, 805459861]; // of x, y and z

export class HashGrid {
  /**
   * Tells every size; `table` [rows * features] must be set before a query.
   * @param {{levels: number, features: number, log2Size: number, baseResolution: number, maxResolution: number}} sizes
   *   as of HashGrid in hash_grid.py.
   */
  constructor({ levels, features, log2Size, baseResolution, maxResolution }) {
    const growth = (maxResolution / baseResolution) ** (1 / Math.max(levels - 1, 1));
    this.features = features;
    const exponents = Array.from({ length: levels }, (_, level) => level);
    this.resolutions = exponents.map((level) => Math.floor(baseResolution * growth ** level + 1e-6));
    this.rows = this.resolutions.map((resolution) => Math.min(2 ** log2Size, (resolution + 1) ** 3));
    this.table = null;
  }

  /** How many numbers of the table each level has, one level after another. */
  get levelSizes() {
    return this.rows.map((rows) => rows * this.features);
  }

  /**
   * @param {Float32Array} points x y z in [0, 1] [3 * count].
   * @returns {Float32Array} [count * levels * features].
   */
  lookUp(points) {
    const result = new Float32Array((points.length / 3) * this.resolutions.length * this.features);
    let first = 0;
    this.resolutions.forEach((resolution, level) => {
      this.#interpolate(points, resolution, first, this.rows[level], result, level * this.features);
      first += this.rows[level];
    });
    return result;
  }

  #interpolate(points, resolution, first, rows, result, offset) {
    const { table, features } = this;
    const stride = this.resolutions.length * features;
    const side = resolution + 1;
    const dense = side ** 3 <= rows;
    for (let from = 0, to = offset; from < points.length; from += 3, to += stride) {
      const x = Math.fround(points[from] * resolution);
      const y = Math.fround(points[from + 1] * resolution);
      const z = Math.fround(points[from + 2] * resolution);
      const [lowX, lowY, lowZ] = [cellOf(x, resolution), cellOf(y, resolution), cellOf(z, resolution)];
      for (let corner = 0; corner < 8; corner++) {
        const [right, down, far] = [corner & 1, (corner >> 1) & 1, corner >> 2];
        const [cornerX, cornerY, cornerZ] = [lowX + right, lowY + down, lowZ + far];
        const alongX = right ? x - lowX : cornerX + 1 - x;
        const alongY = down ? y - lowY : cornerY + 1 - y;
        const weight = alongX * alongY * (far ? z - lowZ : cornerZ + 1 - z);
        const row = dense
          ? cornerX + side * (cornerY + side * cornerZ)
          : (cornerX ^ Math.imul(cornerY, PRIMES[1]) ^ Math.imul(cornerZ, PRIMES[2])) & (rows - 1);
        const at = (first + row) * features;
        for (let i = 0; i < features; i++) result[to + i] += weight * table[at + i];
      }
    }
  }
}

/** The cell of a place along an axis; the border cells go on outside, and 0 is taken for NaN. */
function cellOf(place, resolution) {
  const low = Math.floor(place);
  return low > 0 ? Math.min(low, resolution - 1) : 0;
}
