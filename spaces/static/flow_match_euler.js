// diffusers' FlowMatchEulerDiscreteScheduler: noise levels, and one Euler step of the rectified flow.

const UNKNOWN = [
  "invert_sigmas", "shift_terminal", "stochastic_sampling", "use_beta_sigmas", "use_exponential_sigmas",
  "use_karras_sigmas",
];

export class FlowMatchEuler {
  /**
   * @param {object} config a parsed scheduler_config.json.
   * @param {number} steps how many steps to take, at least 1.
   * @param {number} patches 2x2 patches of the latents, which dynamic shifting depends on.
   * @throws {Error} naming an option of the scheduler that this class does not know.
   */
  constructor(config, steps, patches) {
    for (const name of UNKNOWN) if (config[name]) throw new Error(`scheduler: ${name} is not supported here.`);
    const shift = config.use_dynamic_shifting ? dynamicShift(config, patches) : (sigma) => shifted(config.shift, sigma);
    const train = config.num_train_timesteps;
    const stored = config.use_dynamic_shifting ? (sigma) => sigma : shift;
    const [high, low] = [stored(1), stored(1 / train)];
    const level = (i) => (steps === 1 ? high : high + ((low - high) * i) / (steps - 1));
    /** Noise levels from 1 down to 0, one more than there are steps. */
    this.sigmas = Float32Array.from({ length: steps + 1 }, (_, i) => (i < steps ? shift(level(i)) : 0));
    /** What the model is told at each step: the noise level times the number of training steps. */
    this.timesteps = this.sigmas.slice(0, steps).map((sigma) => sigma * train);
  }

  get steps() {
    return this.timesteps.length;
  }

  /** Latents after step `index`, written over `latents`. */
  step(latents, velocity, index) {
    const change = Math.fround(this.sigmas[index + 1] - this.sigmas[index]);
    for (let i = 0; i < latents.length; i++) latents[i] += Math.fround(change * velocity[i]);
    return latents;
  }
}

function shifted(shift, sigma) {
  return (shift * sigma) / (1 + (shift - 1) * sigma);
}

/** SD3's shift by resolution: linear in the number of patches. */
function dynamicShift(config, patches) {
  const { base_image_seq_len: few, max_image_seq_len: many, base_shift: base, max_shift: top } = config;
  const mu = base + ((top - base) * (patches - few)) / (many - few);
  const factor = config.time_shift_type === "linear" ? mu : Math.exp(mu);
  return (sigma) => factor / (factor + (1 / sigma - 1));
}
