// SnapGen's pipeline in the browser: a prompt in, pixels out, the same as SnapGenPipeline for the same seed.

import { FlowMatchEuler, guide } from "./flow_match_euler.js";
import { fetchJson, Networks } from "./networks.js";
import { toPixels } from "./pixels.js";
import { randn } from "./random.js";
import { ByteLevelTokenizer } from "./tokenizer.js";

const MODEL = new URL("./model/", import.meta.url).href;

export class SnapGen {
  constructor(networks, tokenizer) {
    const encoders = [...networks.components.keys()].filter((name) => name.startsWith("text_encoder"));
    if (encoders.join() !== "text_encoder") {
      throw new Error(`this page runs models with one CLIP text encoder, not ${encoders.join(" and ")}.`);
    }
    this.networks = networks;
    this.tokenizer = tokenizer;
    this.constants = networks.contract.constants;
  }

  static async load(progress) {
    const networks = await Networks.load(MODEL, progress);
    return new SnapGen(networks, new ByteLevelTokenizer(await fetchJson(`${MODEL}tokenizer/tokenizer.json`)));
  }

  /**
   * Makes one picture.
   * @param {{prompt: string, negativePrompt: string, steps: number, guidance: number, seed: number}} request
   *   guidance up to 1 is without, in half the time.
   * @param {(fraction: number, words: string) => void} progress
   * @returns {Promise<{width: number, height: number, data: Uint8ClampedArray}>} RGBA.
   * @throws {Error} with one sentence for what cannot be used.
   */
  async generate(request, progress = () => {}) {
    checkRequest(request);
    const { prompt, negativePrompt, steps, guidance, seed } = request;
    const guided = guidance > 1;
    const text = await this.#encode(guided ? [negativePrompt, prompt] : [prompt]);
    const [channels, rows, columns] = this.constants.latents;
    let latents = randn(seed, channels * rows * columns);
    const patches = Math.floor(rows / 2) * Math.floor(columns / 2);
    const scheduler = new FlowMatchEuler(this.networks.contract.scheduler.config, steps, patches);
    for (let i = 0; i < steps; i++) {
      const velocity = await this.#velocity(latents, scheduler.timesteps[i], text, guided ? guidance : null);
      latents = scheduler.step(latents, velocity, i);
      progress((i + 1) / steps, `step ${i + 1} of ${steps}`);
    }
    const picture = await this.networks.run("vae_decoder", { latents });
    return toPixels(picture, this.constants.width, this.constants.height);
  }

  async #encode(texts) {
    const tokens = texts.map((text) => this.tokenizer.encode(text, this.constants.tokens.text_encoder));
    const states = await this.networks.run("text_encoder", { input_ids: tokens.flatMap(({ ids }) => ids) });
    return { states, mask: tokens.flatMap(({ mask }) => mask) };
  }

  async #velocity(latents, timestep, text, guidance) {
    const copies = guidance === null ? 1 : 2;
    const sample = new Float32Array(copies * latents.length);
    for (let copy = 0; copy < copies; copy++) sample.set(latents, copy * latents.length);
    const velocity = await this.networks.run("unet", {
      latents: sample,
      timestep: new Float32Array(copies).fill(timestep),
      encoder_hidden_states: text.states,
      encoder_attention_mask: text.mask,
    });
    if (guidance === null) return velocity;
    return guide(velocity.subarray(0, latents.length), velocity.subarray(latents.length), guidance);
  }
}

function checkRequest({ prompt, steps, guidance, seed }) {
  if (!prompt.trim()) throw new Error("The prompt is empty: describe the picture in words.");
  checkRange("Steps", steps, 1, 100, true);
  checkRange("Guidance", guidance, 0, 100, false);
  checkRange("Seed", seed, 0, 2 ** 31 - 1, true);
}

function checkRange(name, value, low, high, whole) {
  if ((whole ? Number.isInteger(value) : Number.isFinite(value)) && value >= low && value <= high) return;
  const kind = whole ? "a whole number" : "a number";
  throw new Error(`${name} must be ${kind} from ${low} to ${high}, not ${Number.isNaN(value) ? "nothing" : value}.`);
}
