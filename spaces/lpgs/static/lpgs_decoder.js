// The file of an LPGS scene: hub_models/container_lpgs.py, where the layout is.

import { EntropyDecoder } from "./entropy_decoder.js";
import { halvesToFloats } from "./half_precision.js";
import { gridOf, LPGSGaussians, parametersOf } from "./lpgs_gaussians.js";
import { ValuesDecoder } from "./neighbor_decoder.js";
import { decodeCells } from "./octree_decoder.js";
import { readSafetensors } from "./safetensors.js";

const VERSION = 1;
const MOST_SPLATS = 3_000_000; // with three degrees of harmonics 0.7 GB
const MOST_GRID_NUMBERS = 2 ** 26; // 0.3 GB
const LARGEST = 2 ** 31 - 1;
const LARGEST_NUMBER = 1e9;
const TENSORS = { positions: "U8", scales: "U8", grid: "U8", networks: "F16" };
const UP_AXES = ["x", "y", "z", "-x", "-y", "-z"];
const STEPS = ["position_step", "scale_step", "grid_step"];
const WHOLE = {
  num_parents: [1, LARGEST], grid_dim: [1, 256], hash_levels: [1, 32], hash_log2_size: [0, 24],
  hash_base_resolution: [1, LARGEST], hash_max_resolution: [1, 2 ** 20], children_per_parent: [0, 2],
  head_width: [1, 1024], sh_degree: [0, 3],
};
const REAL = { child_offset_radius: [0, LARGEST_NUMBER], radius: [Number.MIN_VALUE, LARGEST_NUMBER] };
const CHOICES = {
  encoding: ["hash", "frequency"], contraction: ["mipnerf360", "box"], attention: [true, false],
  mlp_position: [true, false], mlp_distance: [true, false],
};

/**
 * All splats of a scene: what `decode_scene(data).expand()` gives in Python.
 * @param {Uint8Array} data what `encode_scene` of container_lpgs.py made, of any origin.
 * @param {(fraction: number, words: string) => void} progress
 * @returns {Promise<Gaussians>} as `decodeSplats` gives them.
 * @throws {Error} with one sentence when the data cannot be that. No size that it claims is trusted.
 */
export async function decodeScene(data, progress = () => {}) {
  const { streams, config, steps } = read(data);
  const scales = await ValuesDecoder.open(streams.get("scales"), 3);
  const table = await EntropyDecoder.open(streams.get("grid"));
  const grid = gridOf(config);
  const parameters = parametersOf(config);
  checkCounts(config, scales.count, grid, table, parameters, streams.get("networks"));
  const cells = await decodeCells(streams.get("positions"), scales.count);
  const means = Float32Array.from(cells, (cell) => cell * steps.position_step);
  const logScales = Float32Array.from(scales.decode(cells), (number) => number * steps.scale_step);
  grid.table = decodeTable(table, grid, steps.grid_step);
  const weights = weightsOf(streams.get("networks"), parameters);
  return new LPGSGaussians(config, grid, weights).expand(means, logScales, progress);
}

function checkCounts(config, parents, grid, table, parameters, networks) {
  const claims = {
    num_parents: [config.num_parents, parents],
    "numbers of the grid": [sum(grid.levelSizes), table.count],
    "numbers of the networks": [sum(parameters.map(([, size]) => size)), networks.length / 2],
  };
  for (const [name, [said, held]] of Object.entries(claims)) {
    check(said === held, `${name} of an LPGS file must be what its streams hold, ${held}, not ${said}.`);
  }
  const sizes = {
    splats: [parents * (1 + config.children_per_parent), MOST_SPLATS],
    "numbers in its grid": [table.count, MOST_GRID_NUMBERS],
  };
  for (const [what, [held, most]] of Object.entries(sizes)) {
    check(held <= most, `A scene in the browser must have at most ${most} ${what}, not ${held}.`);
  }
  const levels = grid.levelSizes.length;
  check(
    table.numContexts === levels && table.alphabet % 2 === 1,
    `The grid of an LPGS file must have ${levels} contexts and an odd alphabet, ` +
      `not ${table.numContexts} and ${table.alphabet}.`,
  );
}

function decodeTable(decoder, grid, step) {
  const levels = new Uint16Array(decoder.count);
  let first = 0;
  grid.levelSizes.forEach((size, level) => levels.fill(level, first, (first += size)));
  const symbols = decoder.decode(levels);
  decoder.finish();
  return Float32Array.from(symbols, (symbol) => (symbol - (decoder.alphabet >> 1)) * step);
}

/** Name -> numbers. */
function weightsOf(bytes, parameters) {
  const numbers = halvesToFloats(bytes);
  check(numbers.every(Number.isFinite), "networks of an LPGS file must be finite, but hold NaN or infinity.");
  let first = 0;
  return new Map(parameters.map(([name, size]) => [name, numbers.subarray(first, (first += size))]));
}

/** Streams, the model's configuration, and the steps that tell how to read numbers. */
function read(data) {
  const { tensors, metadata } = readSafetensors(data);
  let about = null;
  try {
    about = JSON.parse(metadata.lpgs);
  } catch {
    throw new Error("An LPGS file must be in the safetensors format with the metadata `lpgs`.");
  }
  check(about?.version === VERSION, `An LPGS file must be of version ${VERSION}, not ${shown(about?.version)}.`);
  const names = Object.keys(TENSORS);
  check(isNamed(tensors.keys(), names), `An LPGS file must hold ${names.join(", ")}, not ${[...tensors.keys()]}.`);
  const streams = new Map();
  for (const [name, { dtype, shape, bytes }] of tensors) {
    const held = shape.length === 1 && shape[0] * (dtype === "F16" ? 2 : 1) === bytes.length;
    const wanted = TENSORS[name];
    check(dtype === wanted && held, `${name} of an LPGS file must be a row of ${wanted}, not of ${shown(dtype)}.`);
    streams.set(name, bytes);
  }
  checkSteps(about.steps);
  checkConfig(about.model);
  const circle = about.circle ?? null;
  checkCircle(circle);
  return { streams, config: about.model, steps: about.steps, circle };
}

/**
 * From where a scene is best looked at.
 * @param {Uint8Array} data a file that `decodeScene` reads.
 * @returns {{center: number[], distance: number, elevation: number, up: string}|null} in the scene's units and degrees.
 */
export function storedCircle(data) {
  return read(data).circle;
}

function checkCircle(circle) {
  if (circle === null) return;
  const numbers = [...(circle?.center ?? []), circle?.distance, circle?.elevation];
  const right = numbers.length === 5 && numbers.every((value) => Math.abs(value) <= LARGEST_NUMBER);
  const upright = UP_AXES.includes(circle?.up) && circle.distance > 0 && Math.abs(circle.elevation) <= 89;
  check(right && upright, "circle of an LPGS file must have center (three numbers), distance, elevation and up.");
}

function checkSteps(steps) {
  check(isNamed(Object.keys(steps ?? {}), STEPS), `An LPGS file must say its ${STEPS.join(", ")}.`);
  for (const name of STEPS) {
    const right = typeof steps[name] === "number" && steps[name] >= 1e-9 && steps[name] <= 1e9;
    check(right, `${name} must be a number from 1e-9 to 1e9, not ${shown(steps[name])}.`);
  }
}

/** The model's arguments, each of its kind and of a size that a scene may have. */
function checkConfig(config) {
  const names = [...Object.keys(WHOLE), ...Object.keys(REAL), ...Object.keys(CHOICES), "center"];
  check(isNamed(Object.keys(config ?? {}), names), `An LPGS file must say of its model ${names.join(", ")}.`);
  const refuse = (name, wanted) => {
    throw new Error(`${name} of an LPGS file must be ${wanted}, not ${shown(config[name])}.`);
  };
  for (const [name, [low, high]] of Object.entries(WHOLE)) {
    if (!Number.isInteger(config[name]) || !isWithin(config[name], low, high)) {
      refuse(name, `a whole number from ${low} to ${high}`);
    }
  }
  for (const [name, [low, high]] of Object.entries(REAL)) {
    const wanted = low ? `a number above 0, at most ${high}` : `a number from 0 to ${high}`;
    if (!isWithin(config[name], low, high)) refuse(name, wanted);
  }
  for (const [name, choices] of Object.entries(CHOICES)) {
    if (!choices.includes(config[name])) refuse(name, choices.join(" or "));
  }
  const { center, grid_dim: dim, hash_levels: levels, hash_base_resolution: coarsest } = config;
  const isPlace = Array.isArray(center) && center.length === 3;
  if (!isPlace || !center.every((value) => isWithin(value, -LARGEST_NUMBER, LARGEST_NUMBER))) {
    refuse("center", `three numbers of at most ${LARGEST_NUMBER}`);
  }
  if (dim % levels) refuse("grid_dim", `a multiple of hash_levels=${levels}`);
  if (config.hash_max_resolution < coarsest) {
    refuse("hash_max_resolution", `at least hash_base_resolution=${coarsest}`);
  }
}

function isWithin(value, low, high) {
  return typeof value === "number" && value >= low && value <= high;
}

function isNamed(names, wanted) {
  return [...names].sort().join() === [...wanted].sort().join();
}

function sum(numbers) {
  return numbers.reduce((total, number) => total + number, 0);
}

function shown(value) {
  return String(JSON.stringify(value)).slice(0, 30);
}

function check(condition, sentence) {
  if (!condition) throw new Error(sentence);
}
