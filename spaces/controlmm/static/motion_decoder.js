// Codes of a motion to its joints, and joints back to what would bring them nearer to their targets.

export class MotionDecoder {
  /** @param {Networks} networks of a ControlMM bundle. @param {number} tokens of the clip. */
  constructor(networks, tokens) {
    this.networks = networks;
    this.lengths = [tokens];
    this.constants = networks.contract.constants;
  }

  /**
   * Sums of codes, which is what is decoded.
   * @param {Float32Array} chances of each code of the first layer [tokens, codes]; 1 and 0 for one that is known.
   * @param {number[][]} further codes of each other layer, one a token of the clip; none for the first layer alone.
   * @returns {Promise<Float32Array>} [tokens, width].
   */
  latents(chances, further = []) {
    const { tokens, layers, codes: none } = this.constants;
    return this.networks.run("codebooks", { chances, codes: sideBySide(further, tokens, layers - 1, none) });
  }

  /** @returns {Promise<Float32Array>} joints of latents in metres [frames, joints, 3], those behind the clip too. */
  async joints(latents) {
    return (await this.#motion(latents)).joints;
  }

  /** @returns {Promise<Float32Array>} the gradient of how far joints are from their targets, by the latents. */
  async gradient(latents, targets) {
    const { features, joints } = await this.#motion(latents);
    const pulls = { features_gradient: new Float32Array(features.length), joints_gradient: targets.gradient(joints) };
    return this.networks.run("motion_pull", { latents, lengths: this.lengths, ...pulls });
  }

  #motion(latents) {
    return this.networks.runAll("motion_decoder", { latents, lengths: this.lengths });
  }
}

/** Codes of some layers as numbers [tokens, width], `other` where there is none. */
export function sideBySide(layers, tokens, width, other) {
  const numbers = new Int32Array(tokens * width).fill(other);
  layers.forEach((codes, layer) => codes.forEach((code, token) => (numbers[token * width + layer] = code)));
  return numbers;
}
