// diffusers' DDIMScheduler with Stable Diffusion's settings: timesteps, and one step of DDIM without noise.

const KNOWN = {
  prediction_type: "epsilon", beta_schedule: "scaled_linear", trained_betas: null, timestep_spacing: "leading",
  clip_sample: false, thresholding: false, rescale_betas_zero_snr: false,
};

export class Ddim {
  /**
   * @param {object} config a parsed scheduler_config.json.
   * @param {number} steps how many steps to take, from 1 to the number of training steps.
   * @throws {Error} naming a setting of the scheduler that this class does not know.
   */
  constructor(config, steps) {
    for (const [name, known] of Object.entries(KNOWN)) {
      const found = config[name] ?? known;
      if (found !== known) throw new Error(`scheduler: ${name} must be ${known} here, not ${found}.`);
    }
    const { num_train_timesteps: train, steps_offset: offset = 0 } = config;
    this.kept = keptVariance(config.beta_start, config.beta_end, train);
    this.last = (config.set_alpha_to_one ?? true) ? 1 : this.kept[0];
    this.stride = Math.floor(train / steps);
    /** What the model is told at each step, from noise to picture. */
    this.timesteps = Float32Array.from({ length: steps }, (_, i) => (steps - 1 - i) * this.stride + offset);
  }

  get steps() {
    return this.timesteps.length;
  }

  /** Latents after step `index`, written over `latents`; `noise` is what the model found in them. */
  step(latents, noise, index) {
    const timestep = this.timesteps[index];
    const [now, next] = [this.kept[timestep], this.kept[timestep - this.stride] ?? this.last];
    const [noiseNow, noiseNext] = [Math.sqrt(1 - now), Math.sqrt(1 - next)];
    for (let i = 0; i < latents.length; i++) {
      const clean = (latents[i] - noiseNow * noise[i]) / Math.sqrt(now);
      latents[i] = Math.sqrt(next) * clean + noiseNext * noise[i];
    }
    return latents;
  }
}

/** What is left of a picture's variance at each of the training steps. */
function keptVariance(betaStart, betaEnd, train) {
  const [first, last] = [Math.sqrt(betaStart), Math.sqrt(betaEnd)];
  let product = 1;
  return Float32Array.from({ length: train }, (_, k) => {
    product *= 1 - (first + ((last - first) * k) / (train - 1)) ** 2;
    return product;
  });
}
