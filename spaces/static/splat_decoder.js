// Plain Gaussians in few bytes, coded as hub_models/rendering/splat_codec.py says, where the layout is.

import { scalesAndRotation } from "./log_covariance.js";
import { ValuesDecoder } from "./neighbor_decoder.js";
import { decodeCells } from "./octree_decoder.js";
import { readSafetensors } from "./safetensors.js";

/**
 * Plain 3D Gaussians, values as in a 3DGS PLY file: before activation, in OpenCV axes.
 * @typedef {object} Gaussians
 * @property {number} count
 * @property {number} degree of the spherical harmonics, 0 to 3.
 * @property {Float32Array} means x y z [3 * count].
 * @property {Float32Array} logScales natural logarithms of the standard deviations [3 * count].
 * @property {Float32Array} quaternions w x y z [4 * count].
 * @property {Float32Array} opacityLogits before the sigmoid [count].
 * @property {Float32Array} sh red green blue of each of (degree + 1)^2 coefficients [3 * (degree + 1)^2 * count].
 */

const VERSION = 1;
const MAX_DEGREE = 3;
const THIN_STEPS = 8;
const COARSE_BELOW = [0.6, 0.1];
const LEAST_OPACITY = 1e-6;
const SH_C0 = 0.28209479177387814;
const STEPS = [
  "position_step", "shape_step", "thin_scale", "opacity_step", "luma_step", "chroma_step", "sh_luma_step",
  "sh_chroma_step",
];

/**
 * The Gaussians of a file, in Morton order. Integers are those of `decode_splats` bit for bit.
 * @param {Uint8Array} data what `encode_splats` of splat_codec.py made, of any origin.
 * @returns {Promise<Gaussians>}
 * @throws {Error} with one sentence when the data cannot be that. No size that it claims is trusted.
 */
export async function decodeSplats(data) {
  const { streams, steps } = read(data);
  const degree = degreeOf(streams);
  const decoders = {};
  for (const [name, channels] of channelsOf(degree)) {
    decoders[name] = await ValuesDecoder.open(streams.get(name), channels);
  }
  const counts = Object.entries(decoders).map(([name, { count }]) => `${name} ${count}`);
  const { count } = decoders.opacity;
  if (Object.values(decoders).some((decoder) => decoder.count !== count)) {
    throw new Error(`The streams of a splat file must hold as many Gaussians as each other, not ${counts.join(", ")}.`);
  }
  const cells = await decodeCells(streams.get("positions"), count);
  const opacity = decoders.opacity.decode(cells);
  const size = decoders.size.decode(cells);
  const shape = decoders.shape.decode(cells, coarsenessOf(opacity, size, steps));
  const step = steps.position_step * steps.unit;
  return {
    count,
    degree,
    means: new Float32Array(cells.map((cell) => cell * step)),
    ...ellipsoids(size, shape, steps),
    opacityLogits: new Float32Array(opacity.map((number) => logit(opacityOf(number, steps)))),
    sh: harmonics(decoders, cells, count, degree, steps),
  };
}

function opacityOf(number, { opacity_step }) {
  return Math.sin(Math.min(Math.max(number * opacity_step, 0), Math.PI / 2)) ** 2;
}

function logit(opacity) {
  const inside = Math.min(Math.max(opacity, LEAST_OPACITY), 1 - LEAST_OPACITY);
  return Math.log(inside / (1 - inside));
}

/** How many times the step of each shape doubles, since errors of faint and small Gaussians are seen less. */
function coarsenessOf(opacity, size, steps) {
  const [step, shift] = [steps.shape_step / Math.sqrt(3), Math.log(steps.unit)];
  return new Uint8Array(
    opacity.map((number, i) => {
      const seen = opacityOf(number, steps) * Math.exp(Math.min(size[i] * step - shift, 80));
      return COARSE_BELOW.filter((threshold) => seen < threshold).length;
    }),
  );
}

function ellipsoids(size, shape, { shape_step, thin_scale, unit }) {
  const count = size.length;
  const logScales = new Float32Array(3 * count);
  const quaternions = new Float32Array(4 * count);
  const thin = Math.log(thin_scale * unit);
  const coefficients = new Float64Array(6);
  for (let i = 0; i < count; i++) {
    coefficients[0] = size[i] * shape_step;
    for (let k = 0; k < 5; k++) coefficients[k + 1] = shape[5 * i + k] * shape_step;
    const { logScales: narrowed, quaternion } = scalesAndRotation(coefficients);
    narrowed.forEach((scale, axis) => {
      logScales[3 * i + axis] = scale < thin ? thin + (scale - thin) * THIN_STEPS : scale;
    });
    quaternions.set(quaternion, 4 * i);
  }
  return { logScales, quaternions };
}

/** Red, green and blue from luma and chroma, degree after degree. */
function harmonics(decoders, cells, count, degree, steps) {
  const coefficients = (degree + 1) ** 2;
  const sh = new Float32Array(3 * coefficients * count);
  for (let n = 0; n <= degree; n++) {
    const numbers = decoders[n ? `sh_${n}` : "color"].decode(cells);
    const luma = n ? steps.sh_luma_step : steps.luma_step / SH_C0;
    const chroma = n ? steps.sh_chroma_step : steps.chroma_step / SH_C0;
    for (let i = 0, at = 0; i < count; i++) {
      for (let k = n * n; k < (n + 1) ** 2; k++, at += 3) {
        const y = numbers[at] * luma;
        const co = numbers[at + 1] * chroma;
        const cg = numbers[at + 2] * chroma;
        const to = 3 * (coefficients * i + k);
        sh[to] = y + co - cg;
        sh[to + 1] = y + cg;
        sh[to + 2] = y - co - cg;
      }
    }
  }
  return sh;
}

/** [stream, integers a Gaussian] of all streams but positions. */
function channelsOf(degree) {
  const harmonic = Array.from({ length: degree }, (_, i) => [`sh_${i + 1}`, 3 * (2 * i + 3)]);
  return [["opacity", 1], ["size", 1], ["shape", 5], ["color", 3], ...harmonic];
}

/** Streams, and the steps and unit that tell how to read them. */
function read(data) {
  const { tensors, metadata } = readSafetensors(data);
  let about = null;
  try {
    about = JSON.parse(metadata.splats);
  } catch {
    throw new Error("A splat file must be in the safetensors format with the metadata `splats`.");
  }
  if (about?.version !== VERSION) {
    throw new Error(`A splat file must be of version ${VERSION}, but its metadata says ${about?.version}.`);
  }
  const names = ["version", "unit", ...STEPS];
  if (Object.keys(about).sort().join() !== names.sort().join()) {
    throw new Error(`A splat file must say its unit and steps ${STEPS.join(", ")}, not ${Object.keys(about)}.`);
  }
  for (const name of ["unit", ...STEPS]) {
    if (!(typeof about[name] === "number" && about[name] >= 1e-9 && about[name] <= 1e9)) {
      throw new Error(`${name} must be a number from 1e-9 to 1e9, not ${about[name]}.`);
    }
  }
  const streams = new Map();
  for (const [name, { dtype, shape, bytes }] of tensors) {
    if (dtype !== "U8" || shape.length !== 1 || shape[0] !== bytes.length) {
      throw new Error(`The streams of a splat file must be rows of bytes, but ${name} is ${dtype}.`);
    }
    streams.set(name, bytes);
  }
  return { streams, steps: about };
}

function degreeOf(streams) {
  const held = [...streams.keys()].sort().join(", ");
  for (let degree = 0; degree <= MAX_DEGREE; degree++) {
    const names = ["positions", ...channelsOf(degree).map(([name]) => name)];
    if (held === names.sort().join(", ")) return degree;
  }
  throw new Error(`A splat file must hold positions, opacity, size, shape, color and whole sh degrees, not ${held}.`);
}
