// BitsFusion's pipeline in the browser, the same as BitsFusionPipeline; its UNet's weights are decoded here.

import { Ddim } from "./ddim.js";
import { unpackWeights } from "./packed_weights.js";
import { TextToImage } from "./text_to_image.js";

const MODEL = new URL("./model/", import.meta.url).href;

export class BitsFusion {
  /** @returns {Promise<TextToImage>} */
  static load(progress) {
    return TextToImage.load(MODEL, progress, schedule, unpackWeights);
  }
}

/** @throws {Error} for a number of steps at whose timesteps the UNet has no time embedding. */
function schedule({ scheduler, constants }, steps) {
  const cached = new Set(constants.cached_timesteps);
  const fits = ({ timesteps }) => constants.cached_timesteps === undefined || timesteps.every((t) => cached.has(t));
  const made = new Ddim(scheduler.config, steps);
  if (fits(made)) return made;
  const counts = Array.from({ length: cached.size }, (_, i) => i + 1);
  const known = counts.filter((count) => fits(new Ddim(scheduler.config, count)));
  throw new Error(`Steps must be one of ${known.join(", ")}, whose timesteps are in the packed file, not ${steps}.`);
}
