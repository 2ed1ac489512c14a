// AdamW (Loshchilov and Hutter, arXiv 1711.05101), step by step as torch.optim.AdamW takes them.

const EPSILON = 1e-8;

export class AdamW {
  /**
   * @param {Float32Array} values that the steps change.
   * @param {{learning_rate: number, betas: number[], weight_decay: number}} options
   */
  constructor(values, { learning_rate: rate, betas, weight_decay: decay }) {
    Object.assign(this, { values, rate, betas, decay, steps: 0 });
    this.mean = new Float32Array(values.length);
    this.square = new Float32Array(values.length);
  }

  /** @param {Float32Array} gradient of what shall become less, by each value. */
  step(gradient) {
    const { values, mean, square, rate, decay } = this;
    const [beta1, beta2] = this.betas;
    this.steps += 1;
    const size = rate / (1 - beta1 ** this.steps);
    const scale = Math.sqrt(1 - beta2 ** this.steps);
    for (let i = 0; i < values.length; i++) {
      mean[i] += (1 - beta1) * (gradient[i] - mean[i]);
      square[i] = beta2 * square[i] + (1 - beta2) * gradient[i] ** 2;
      const kept = Math.fround(values[i] * (1 - rate * decay));
      values[i] = kept - (size * mean[i]) / (Math.sqrt(square[i]) / scale + EPSILON);
    }
  }
}
