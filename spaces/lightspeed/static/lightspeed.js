// LightSpeed's pipeline in the browser, the same as LightSpeedPipeline.

import { Networks } from "./networks.js";
import { toPixels } from "./pixels.js";
import { ViewClusters } from "./view_clusters.js";

const MODEL = new URL("./model/", import.meta.url).href;

export class LightSpeed {
  /** @param {Networks} networks of a bundle: one for each sub-scene. */
  constructor(networks) {
    this.networks = networks;
    const { constants, configs, components } = networks.contract;
    this.constants = constants;
    this.clusters = new ViewClusters(configs.field.centres, constants.border);
    this.names = components.map(({ name }) => name);
  }

  /** Fetches the bundle. */
  static async load(progress) {
    return new LightSpeed(await Networks.load(MODEL, progress));
  }

  /**
   * What a camera sees.
   * @param {{viewmat: number[], K: number[], eye: number[]}} camera as a range of views gives it.
   * @returns {Promise<{pixels: object, milliseconds: number, weights: number[]}>} as `toPixels` gives them, what they
   *   took, and how much each sub-scene counts in them.
   */
  async generate({ viewmat, K, eye }) {
    const start = performance.now();
    const { width, height } = this.constants;
    const weights = this.clusters.weights(eye);
    const picture = new Float32Array(3 * width * height); // in [-1, 1]
    for (const [i, weight] of weights.entries()) {
      if (weight === 0) continue;
      const shown = await this.networks.run(this.names[i], { viewmat, K });
      for (let at = 0; at < picture.length; at++) picture[at] += weight * (2 * shown[at] - 1);
    }
    const pixels = toPixels(picture, width, height);
    return { pixels, milliseconds: performance.now() - start, weights };
  }
}
