// AsCAN's classifier of digits in the browser: a picture in, the likeliest digits out.

import { readDigit, toPixelValues } from "./digit.js";
import { Networks } from "./networks.js";

const MODEL = new URL("./model/", import.meta.url).href;

export class DigitReader {
  constructor(networks) {
    if (!networks.components.has("classifier")) throw new Error("this page runs classifiers, not other models.");
    this.networks = networks;
    this.constants = networks.contract.constants;
  }

  static async load(progress) {
    return new DigitReader(await Networks.load(MODEL, progress));
  }

  /**
   * Reads one digit.
   * @param {{width: number, height: number, data: Uint8ClampedArray}} picture RGBA.
   * @returns {Promise<{cells: Float32Array, best: {label: string, score: number}[]}>} what the model saw, and its
   *   classes, best first.
   * @throws {Error} with one sentence for a picture without a digit.
   */
  async generate(picture) {
    const cells = readDigit(picture);
    const { image_size: size, labels } = this.constants;
    const scores = softmax(await this.networks.run("classifier", { pixel_values: toPixelValues(cells, size) }));
    const best = Array.from(scores, (score, number) => ({ label: labels[number], score }));
    return { cells, best: best.sort((a, b) => b.score - a.score) };
  }
}

function softmax(logits) {
  const highest = Math.max(...logits);
  const powers = Array.from(logits, (value) => Math.exp(value - highest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((value) => value / sum);
}
