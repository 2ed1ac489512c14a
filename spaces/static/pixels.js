// From a network's picture to something to see and to save.

import { saveFile } from "./saved_file.js";

/**
 * A picture [3, height, width] in about [-1, 1] as bytes for a canvas, rounded as the Python pipelines do.
 * @returns {{width: number, height: number, data: Uint8ClampedArray}} RGBA.
 */
export function toPixels(picture, width, height) {
  const data = new Uint8ClampedArray(4 * width * height);
  for (let i = 0; i < width * height; i++) {
    for (let channel = 0; channel < 3; channel++) {
      data[4 * i + channel] = 255 * (picture[channel * width * height + i] / 2 + 0.5);
    }
    data[4 * i + 3] = 255;
  }
  return { width, height, data };
}

/** A canvas that shows pixels one to one. */
export function toCanvas({ width, height, data }) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  canvas.getContext("2d").putImageData(new ImageData(data, width, height), 0, 0);
  return canvas;
}

/** Saves a canvas as a PNG file of its own size. */
export async function savePng(canvas, name) {
  saveFile(await new Promise((resolve) => canvas.toBlob(resolve, "image/png")), name);
}
