// Where a scene is and how large, so that its first view shows all of it.

const SHARE = 0.95; // of what is opaque lies in the ball

/**
 * A ball around what is opaque, without the farthest twentieth of it: `scene_ball` of pipelines/scene_cameras.py.
 * @param {Gaussians} gaussians as `decodeSplats` gives them, one at least.
 * @returns {{center: number[], radius: number}}
 * @throws {Error} when they are not finite.
 */
export function sceneBall({ count, means, logScales, opacityLogits }) {
  const weights = Float64Array.from(opacityLogits, (logit) => 1 / (1 + Math.exp(-logit)));
  const center = [0, 1, 2].map((axis) => {
    const along = Float64Array.from(weights, (_, i) => means[3 * i + axis]);
    return along[atShare(along, weights, 0.5)];
  });
  const distances = Float64Array.from(weights, (_, i) =>
    Math.hypot(means[3 * i] - center[0], means[3 * i + 1] - center[1], means[3 * i + 2] - center[2]),
  );
  const largest = Float64Array.from(weights, (_, i) => Math.max(...logScales.subarray(3 * i, 3 * i + 3))).sort();
  const size = Math.exp(largest[(count - 1) >> 1]);
  const radius = distances[atShare(distances, weights, SHARE)] + size;
  if (!Number.isFinite(radius)) throw new Error("The scene must have finite positions and sizes, but they overflow.");
  return { center, radius };
}

/** Which of the values, in ascending order, is the first that a share of all weights does not exceed. */
function atShare(values, weights, share) {
  const order = Uint32Array.from(values.keys()).sort((one, other) => values[one] - values[other]);
  let left = share * weights.reduce((sum, weight) => sum + weight, 0);
  for (const i of order) {
    left -= weights[i];
    if (left <= 0) return i;
  }
  return order[order.length - 1];
}
