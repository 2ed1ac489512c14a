// The order in which splats are drawn over each other.

const RADIX = 1 << 16;

/** Sorts points by depth, again and again for changing cameras. */
export class DepthOrder {
  /** @param {Float32Array} means x y z [3 * count]. */
  constructor(means) {
    const count = means.length / 3;
    this.means = means;
    this.depths = new Float32Array(count);
    this.keys = new Uint32Array(this.depths.buffer);
    this.counts = new Uint32Array(RADIX);
  }

  /**
   * Indices of the points from the farthest to the nearest along the camera's z axis; of equally far ones the first
   * is drawn last, in front, as the rasteriser in Python does.
   * @param {ArrayLike<number>} viewmat world to camera, OpenCV axes, row after row [16].
   * @returns {Uint32Array}
   */
  farToNear(viewmat) {
    const { means, depths, keys } = this;
    const [x, y, z, w] = Array.from(viewmat).slice(8, 12);
    for (let i = 0; i < depths.length; i++) {
      depths[i] = x * means[3 * i] + y * means[3 * i + 1] + z * means[3 * i + 2] + w;
    }
    // The bits of floats, made such that whole numbers have the opposite order.
    for (let i = 0; i < keys.length; i++) keys[i] = keys[i] >>> 31 ? keys[i] : ~keys[i] & 0x7fffffff;
    const backwards = Uint32Array.from(keys, (_, i) => keys.length - 1 - i);
    return this.#sortByDigit(this.#sortByDigit(backwards, 0), 16);
  }

  /** A stable counting sort by 16 bits of the keys. */
  #sortByDigit(order, shift) {
    const { counts, keys } = this;
    counts.fill(0);
    for (const key of keys) counts[(key >>> shift) & (RADIX - 1)]++;
    for (let digit = 0, start = 0; digit < RADIX; digit++) {
      const here = counts[digit];
      counts[digit] = start;
      start += here;
    }
    const sorted = new Uint32Array(order.length);
    for (const point of order) sorted[counts[(keys[point] >>> shift) & (RADIX - 1)]++] = point;
    return sorted;
  }
}
