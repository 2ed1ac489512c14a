// Tokens decoded in parallel, most confident first (MaskGIT), with the noise of the Python pipelines: a seed gives the
// same codes here and there.

import { MersenneTwister } from "./random.js";
import { roundToEven } from "./rounding.js";

export const CERTAIN = 1e5; // score of a token that was not asked for

/** Gumbel noise of one sample, drawn as Python's `draw_gumbel` draws it. */
export class GumbelNoise {
  /** @param {number | bigint} seed of the call; the sample's own is the first that it draws, as `own_generators` has it. */
  constructor(seed) {
    this.generator = new MersenneTwister(this.#ownSeed(new MersenneTwister(seed)));
  }

  /** The next `count` numbers: -log(-log(uniform in [0, 1))), of 53 bits. */
  draw(count) {
    return Float32Array.from({ length: count }, () => {
      const high = this.generator.word() & 0x1fffff;
      const uniform = (high * 2 ** 32 + this.generator.word()) / 2 ** 53;
      return -Math.log(-Math.log(Math.max(uniform, 1e-300)));
    });
  }

  /** `torch.randint(2**62, ())`. */
  #ownSeed(generator) {
    const high = BigInt(generator.word());
    return ((high << 32n) | BigInt(generator.word())) & ((1n << 62n) - 1n);
  }
}

/** How many of `tokens` are asked for at a step, counted from 0: by a quarter of a cosine, at least 1. */
export function maskedCount(step, steps, tokens) {
  const share = Math.cos(((Math.PI / 2) * step) / Math.max(1, steps - 1));
  return Math.max(1, roundToEven(share * tokens));
}

/** The `count` places of lowest score; of equal ones the first. */
export function leastCertain(scores, count) {
  const order = Array.from(scores, (_, token) => token);
  return order.sort((a, b) => scores[a] - scores[b] || a - b).slice(0, count);
}

/** The place of the highest logit plus noise among the `kept` highest logits of a token (those equal to the last too). */
export function drawCode(logits, noise, kept) {
  const lowest = Float32Array.from(logits).sort()[logits.length - kept];
  let best = -1;
  for (let code = 0; code < logits.length; code++) {
    if (logits[code] < lowest) continue;
    if (best < 0 || sum(logits, noise, code) > sum(logits, noise, best)) best = code;
  }
  return best;
}

/** What softmax gives to one of a token's logits. */
export function chanceOf(logits, code) {
  const highest = logits.reduce((most, value) => Math.max(most, value), -Infinity);
  const total = logits.reduce((all, value) => all + Math.exp(value - highest), 0);
  return Math.exp(logits[code] - highest) / total;
}

/** In float32, as Python adds them. */
function sum(logits, noise, code) {
  return Math.fround(logits[code] + noise[code]);
}
