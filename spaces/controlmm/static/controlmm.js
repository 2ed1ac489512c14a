// ControlMM's pipeline in the browser, the same as ControlMMPipeline with `optimization="fast"`.

import { AdamW } from "./adamw.js";
import { DrawnPath } from "./drawn_path.js";
import { JointTargets } from "./joint_targets.js";
import { drawCode, GumbelNoise } from "./masked_decoding.js";
import { MotionCodes } from "./motion_codes.js";
import { MotionDecoder } from "./motion_decoder.js";
import { fetchJson, Networks } from "./networks.js";
import { checkRange } from "./ranges.js";
import { ByteLevelTokenizer } from "./tokenizer.js";

const MODEL = new URL("./model/", import.meta.url).href;
const PELVIS = 0;
const SHORT = 60; // frames of a clip at least, where a path says how long it is

export class ControlMM {
  /** @param {Networks} networks of a bundle with a control branch. @param {ByteLevelTokenizer} tokenizer */
  constructor(networks, tokenizer) {
    this.networks = networks;
    this.tokenizer = tokenizer;
    this.constants = networks.contract.constants;
  }

  /** Fetches the bundle. */
  static async load(progress) {
    const networks = await Networks.load(MODEL, progress);
    return new ControlMM(networks, new ByteLevelTokenizer(await fetchJson(`${MODEL}tokenizer/tokenizer.json`)));
  }

  /**
   * Makes one motion. With a path, that is done twice: the pelvis is held as high as it was when it was free.
   * @param {{prompt: string, path: number[][], frames: number | null, steps: number, guidance: number, seed: number}}
   *   request the way of the pelvis as points x and z in metres, none leaves it free; null frames are as many as the
   *   path takes, or else the prompt; guidance up to 1 is without.
   * @param {(fraction: number, words: string) => void} progress
   * @returns {Promise<{joints: Float32Array, targets: object[], misses: number[]}>} metres [frames, joints, 3] of joints,
   *   their targets as `JointTargets` has them, and the metres that each is missed by.
   * @throws {Error} with one sentence for what cannot be used.
   */
  async generate(request, progress = () => {}) {
    this.#check(request);
    const { prompt, steps, guidance, seed } = request;
    const path = request.path.length ? new DrawnPath(request.path) : null;
    const [, last] = this.constants.optimizations.fast;
    const rounds = path ? 2 * steps + last : steps;
    let done = 0;
    const advance = () => progress(++done / rounds, `step ${done} of ${rounds}`);

    const noise = new GumbelNoise(seed);
    const text = await this.#encode(prompt);
    const frames = request.frames ?? (path ? this.#framesOf(path) : await this.#estimate(text, noise));
    const clip = { text, noise, steps, guidance, tokens: Math.ceil(frames / this.constants.frames_per_token) };
    const decoder = new MotionDecoder(this.networks, clip.tokens);
    const free = await new MotionCodes(this.networks, decoder, clip).find(advance);
    const joints = await decoder.joints(free.latents);
    if (path === null) return { joints: this.#cut(joints, frames), targets: [], misses: [] };

    const targets = this.#targets(path.places(frames), joints);
    const again = { ...clip, noise: new GumbelNoise(seed) };
    const { latents } = await new MotionCodes(this.networks, decoder, again, targets).find(advance);
    const nearer = await decoder.joints(await this.#optimized(latents, decoder, targets, last, advance));
    return { joints: this.#cut(nearer, frames), targets: targets.targets, misses: targets.misses(nearer) };
  }

  async #encode(prompt) {
    const [, length] = this.networks.components.get("text_encoder").inputs[0].shape;
    return this.networks.run("text_encoder", { input_ids: this.tokenizer.encode(prompt, length).ids });
  }

  #framesOf(path) {
    return Math.min(this.constants.frames[1], Math.max(SHORT, path.walkingFrames));
  }

  /** Frames of a prompt's motion, drawn by what the length estimator says of each number of tokens. */
  async #estimate(text, noise) {
    const { frames, frames_per_token: ratio } = this.constants;
    const [least, most] = frames.map((count) => Math.floor(count / ratio));
    const logits = await this.networks.run("length_estimator", { text });
    const allowed = logits.map((value, tokens) => (tokens < least || tokens > most ? -Infinity : value));
    return ratio * drawCode(allowed, noise.draw(allowed.length), allowed.length);
  }

  /** The pelvis at places of the floor, as high as in a motion. */
  #targets(places, joints) {
    const count = this.constants.joints.length;
    const height = (frame) => joints[3 * (frame * count + PELVIS) + 1];
    const held = places.map(([x, z], frame) => ({ frame, joint: PELVIS, position: [x, height(frame), z] }));
    return new JointTargets(held, count);
  }

  /** Latents after so many steps that bring their joints nearer to the targets. */
  async #optimized(latents, decoder, targets, steps, advance) {
    const optimizer = new AdamW(Float32Array.from(latents), this.constants);
    for (let step = 0; step < steps; step++) {
      optimizer.rate = this.#rateAt(step, steps);
      optimizer.step(await decoder.gradient(optimizer.values, targets));
      advance();
    }
    return optimizer.values;
  }

  /** Even, and then falling along a line that would meet 0 after the last step. */
  #rateAt(step, steps) {
    const { learning_rate: rate, falling } = this.constants;
    return rate * Math.min(1, (1 - step / steps) / falling);
  }

  #cut(joints, frames) {
    return joints.slice(0, 3 * this.constants.joints.length * frames);
  }

  #check({ prompt, frames, steps, guidance, seed }) {
    if (!prompt.trim()) throw new Error("The prompt is empty: describe the motion in words.");
    if (frames !== null) checkRange("Frames", frames, ...this.constants.frames, true);
    checkRange("Steps", steps, 1, 100, true);
    checkRange("Guidance", guidance, 0, 100, false);
    checkRange("Seed", seed, 0, 2 ** 31 - 1, true);
  }
}
