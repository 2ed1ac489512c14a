// The codes of a motion: those of the first layer in parallel, the most certain first, then those of each other layer.

import { guide } from "./guidance.js";
import { CERTAIN, chanceOf, drawCode, leastCertain, maskedCount } from "./masked_decoding.js";
import { sideBySide } from "./motion_decoder.js";

export class MotionCodes {
  /**
   * @param {Networks} networks of a ControlMM bundle with a control branch.
   * @param {MotionDecoder} decoder
   * @param {{text: Float32Array, tokens: number, noise: GumbelNoise, steps: number, guidance: number}} clip the
   *   embedding of its prompt, how many tokens it has, and how they are found.
   * @param {JointTargets | null} targets that its joints are led to; null leaves them free.
   */
  constructor(networks, decoder, clip, targets = null) {
    Object.assign(this, { networks, decoder, clip, targets });
    this.constants = networks.contract.constants;
    this.controlJoints = networks.contract.configs.control_branch.control_joints;
  }

  /**
   * Finds them.
   * @param {() => void} advance called after each step of the first layer.
   * @returns {Promise<{codes: number[][], latents: Float32Array}>} codes of each layer, one a token, and their sums,
   *   which are decoded; where joints have targets, with what is expected of the first layer in place of its codes.
   */
  async find(advance = () => {}) {
    const { first, chances } = await this.#firstLayer(advance);
    const further = await this.#furtherLayers(first);
    return { codes: [first, ...further], latents: await this.decoder.latents(chances, further) };
  }

  async #firstLayer(advance) {
    const { steps, tokens } = this.clip;
    const mask = this.constants.codes; // its number is the one behind those of the codes
    const seen = rowsOf(new Float32Array(this.constants.tokens * (mask + 1)), mask + 1); // chances of codes and mask
    for (const row of seen) know(row, mask);
    const first = new Array(tokens).fill(0);
    const certainty = new Float32Array(tokens);
    let logits = null; // of the step before
    for (let step = 0; step < steps; step++) {
      const hidden = leastCertain(certainty, maskedCount(step, steps, tokens));
      for (const token of hidden) know(seen[token], mask);
      logits = await this.#ask(seen, logits, hidden);
      const drawn = this.targets ? this.#soften(seen, logits) : this.#draw(logits);
      certainty.fill(CERTAIN);
      for (const token of hidden) {
        first[token] = drawn[token];
        certainty[token] = chanceOf(logits[token], drawn[token]);
        if (!this.targets) know(seen[token], drawn[token]);
      }
      advance();
    }
    if (!this.targets) return { first, chances: this.#chances((row, token) => know(row, first[token])) };
    const likeliest = logits.map((row) => row.indexOf(Math.max(...row)));
    return { first: likeliest, chances: this.#chances((row, token) => row.set(softmax(logits[token]))) };
  }

  /** Logits of the first layer; where joints have targets, the network is told where they are by the logits before. */
  async #ask(seen, before, hidden) {
    const chances = seen.flatMap((row) => [...row]);
    if (!this.targets) return this.#guided("transformer", { chances }, this.clip.guidance);
    const unknown = new Set(hidden);
    const expected = this.#chances((row, token) => {
      if (unknown.has(token)) row.fill(1 / row.length);
      else row.set(softmax(before[token]));
    });
    const joints = await this.decoder.joints(await this.decoder.latents(expected));
    const control = this.targets.control(joints, this.controlJoints);
    return this.#guided("controlled_transformer", { chances, control }, this.clip.guidance);
  }

  /** A code of each token, among the likeliest. */
  #draw(logits) {
    const noise = this.#noise();
    return logits.map((row, token) => drawCode(row, noise[token], this.constants.kept_codes));
  }

  /** A code of each token by chances that are under noise themselves; these are what the next step sees. */
  #soften(seen, logits) {
    const noise = this.#noise();
    const noisy = logits.map((row, token) => row.map((value, code) => value + noise[token][code]));
    const chances = noisy.map(softmax);
    chances.forEach((row, token) => seen[token].fill(0).set(row));
    const further = this.#noise();
    return chances.map((row, token) => drawCode(row.map(Math.log), further[token], row.length));
  }

  /** Codes of each layer behind the first, each drawn when those of the layers before are known. */
  async #furtherLayers(first) {
    const { tokens, layers, residual_guidance_scale: guidance } = this.constants;
    const found = [first];
    for (let layer = 0; layer < layers - 1; layer++) {
      const codes = sideBySide(found, tokens, layers - 1, 0);
      found.push(this.#draw(await this.#guided("residual_transformer", { codes, layer: [layer] }, guidance)));
    }
    return found.slice(1);
  }

  /** Logits of each token of the clip, led away from those that come without the prompt. */
  async #guided(network, inputs, scale) {
    const { text, tokens } = this.clip;
    const told = { ...inputs, text, lengths: [tokens] };
    if (scale <= 1) return this.#ofClip(await this.networks.run(network, told));
    const free = { ...told, text: new Float32Array(text.length) };
    const both = Object.keys(told).map((name) => [name, [...free[name], ...told[name]]]);
    const logits = await this.networks.run(network, Object.fromEntries(both));
    const half = logits.length / 2;
    return this.#ofClip(guide(logits.subarray(0, half), logits.subarray(half), scale));
  }

  /** New noise for each code of each token of the clip. */
  #noise() {
    const { codes } = this.constants;
    return rowsOf(this.clip.noise.draw(this.clip.tokens * codes), codes);
  }

  /** Chances of codes [tokens, codes]; `fill` is called with the row of each token of the clip. */
  #chances(fill) {
    const chances = new Float32Array(this.constants.tokens * this.constants.codes);
    this.#ofClip(chances).forEach(fill);
    return chances;
  }

  #ofClip(numbers) {
    return rowsOf(numbers, this.constants.codes).slice(0, this.clip.tokens);
  }
}

/** The number of a token is known: its chance is 1. */
function know(row, number) {
  row.fill(0)[number] = 1;
}

function softmax(logits) {
  const highest = Math.max(...logits);
  const powers = logits.map((value) => Math.exp(value - highest));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
}

function rowsOf(numbers, width) {
  return Array.from({ length: numbers.length / width }, (_, i) => numbers.subarray(i * width, (i + 1) * width));
}
