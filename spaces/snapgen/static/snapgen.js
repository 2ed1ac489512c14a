// SnapGen's pipeline in the browser, the same as SnapGenPipeline.

import { FlowMatchEuler } from "./flow_match_euler.js";
import { TextToImage } from "./text_to_image.js";

const MODEL = new URL("./model/", import.meta.url).href;

export class SnapGen {
  /** @returns {Promise<TextToImage>} */
  static load(progress) {
    return TextToImage.load(MODEL, progress, schedule);
  }
}

function schedule({ scheduler, constants }, steps) {
  const [, rows, columns] = constants.latents;
  return new FlowMatchEuler(scheduler.config, steps, Math.floor(rows / 2) * Math.floor(columns / 2));
}
