// A text-to-image pipeline in the browser: a prompt in, pixels out, the same as in Python for the same seed.

import { guide } from "./guidance.js";
import { fetchJson, Networks } from "./networks.js";
import { toPixels } from "./pixels.js";
import { randn } from "./random.js";
import { checkRange } from "./ranges.js";
import { ByteLevelTokenizer } from "./tokenizer.js";

export class TextToImage {
  /**
   * @param {Networks} networks text_encoder, unet and vae_decoder.
   * @param {ByteLevelTokenizer} tokenizer
   * @param {(contract: object, steps: number) => object} schedule makes what has `timesteps` and `step(latents,
   *   prediction, index)`.
   */
  constructor(networks, tokenizer, schedule) {
    const encoders = [...networks.components.keys()].filter((name) => name.startsWith("text_encoder"));
    if (encoders.join() !== "text_encoder") {
      throw new Error(`this page runs models with one CLIP text encoder, not ${encoders.join(" and ")}.`);
    }
    this.networks = networks;
    this.tokenizer = tokenizer;
    this.schedule = schedule;
    this.constants = networks.contract.constants;
  }

  /** Fetches the bundle in `folder`; `unpack` as `Networks.load` takes it. */
  static async load(folder, progress, schedule, unpack = null) {
    const networks = await Networks.load(folder, progress, unpack);
    const tokenizer = new ByteLevelTokenizer(await fetchJson(`${folder}tokenizer/tokenizer.json`));
    return new TextToImage(networks, tokenizer, schedule);
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
    const scheduler = this.schedule(this.networks.contract, steps);
    const text = await this.#encode(guided ? [negativePrompt, prompt] : [prompt]);
    let latents = randn(seed, this.constants.latents.reduce((product, size) => product * size, 1));
    for (let i = 0; i < steps; i++) {
      const prediction = await this.#predict(latents, scheduler.timesteps[i], text, guided ? guidance : null);
      latents = scheduler.step(latents, prediction, i);
      progress((i + 1) / steps, `step ${i + 1} of ${steps}`);
    }
    const picture = await this.networks.run("vae_decoder", { latents });
    return toPixels(picture, this.constants.width, this.constants.height);
  }

  async #encode(texts) {
    const tokens = texts.map((text) => this.tokenizer.encode(text, this.constants.tokens.text_encoder));
    const states = await this.networks.run("text_encoder", { input_ids: tokens.flatMap(({ ids }) => ids) });
    return { encoder_hidden_states: states, encoder_attention_mask: tokens.flatMap(({ mask }) => mask) };
  }

  async #predict(latents, timestep, text, guidance) {
    const copies = guidance === null ? 1 : 2;
    const sample = new Float32Array(copies * latents.length);
    for (let copy = 0; copy < copies; copy++) sample.set(latents, copy * latents.length);
    const timesteps = new Float32Array(copies).fill(timestep);
    const prediction = await this.networks.run("unet", { latents: sample, timestep: timesteps, ...text });
    if (guidance === null) return prediction;
    return guide(prediction.subarray(0, latents.length), prediction.subarray(latents.length), guidance);
  }
}

function checkRequest({ prompt, steps, guidance, seed }) {
  if (!prompt.trim()) throw new Error("The prompt is empty: describe the picture in words.");
  checkRange("Steps", steps, 1, 100, true);
  checkRange("Guidance", guidance, 0, 100, false);
  checkRange("Seed", seed, 0, 2 ** 31 - 1, true);
}
