// Clusters of cameras by where they stand: Python's hub_models/rendering/view_clusters.py.

export class ViewClusters {
  /**
   * @param {number[][]} centres means of the cameras of each cluster, in scene units.
   * @param {number} border half the width of the zone in which two share a picture, as a share of the way from their
   *   border to a centre.
   */
  constructor(centres, border) {
    this.centres = centres;
    this.border = border;
  }

  /**
   * How much each cluster's picture counts in that of a camera: only that of the nearest, but two near a border.
   * @param {number[]} camera where it stands.
   * @returns {number[]} one number a cluster; their sum is 1.
   */
  weights(camera) {
    const weights = this.centres.map(() => 0);
    const distances = this.centres.map((centre) => distance(camera, centre));
    const [nearest, second] = weights.map((_, i) => i).sort((one, other) => distances[one] - distances[other]);
    weights[nearest] = 1;
    if (second === undefined) return weights;
    const apart = distance(this.centres[nearest], this.centres[second]);
    const fromBorder = (distances[second] ** 2 - distances[nearest] ** 2) / (2 * apart);
    const zone = Math.max((this.border * apart) / 2, Number.MIN_VALUE);
    weights[nearest] = 0.5 + 0.5 * Math.min(fromBorder / zone, 1);
    weights[second] = 1 - weights[nearest];
    return weights;
  }
}

function distance(one, other) {
  return Math.hypot(...one.map((value, axis) => value - other[axis]));
}
