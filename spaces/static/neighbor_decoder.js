// Integer attributes of points, coded as hub_models/rendering/neighbor_coding.py says, where the layout is.
// All numbers stay below 2^53, up to which floating-point arithmetic on integers is exact.

import { EntropyDecoder } from "./entropy_decoder.js";

const HEADER_BYTES = 3;
const COARSEST = 2;
const STRIDES = [-7, -5, -3, -1, 1, 3, 5, 7]; // from a point to its neighbours, in distances to the nearest
const NEAREST = 1 << 20;
const FRACTION = 8;
const SPREADS = [2, 4, 8, 16];
const CHOICES = ["1,1", "8,1", "16,1", "32,1", "8,5", "16,5", "32,5"];

/** Reads coded values; `count`, how many points there are, is known before their cells. */
export class ValuesDecoder {
  #lowest;
  #bins;
  #classes;
  #decoder;

  /**
   * @param {Uint8Array} data what `encode_values` of neighbor_coding.py made, of any origin.
   * @param {number} channels that it must have.
   * @returns {Promise<ValuesDecoder>}
   * @throws {Error} when the data cannot be that.
   */
  static async open(data, channels) {
    const start = HEADER_BYTES + 4 * channels;
    if (data.length < start) {
      throw new Error(`Coded values of ${channels} channels must hold ${start} bytes, not ${data.length}.`);
    }
    const [stored, bins, classes] = data;
    if (stored !== channels || !CHOICES.includes(`${bins},${classes}`)) {
      throw new Error(
        `Coded values must have ${channels} channels and bins and classes among ${CHOICES.join(" ")}, ` +
          `not ${stored} channels and ${bins},${classes}.`,
      );
    }
    const view = new DataView(data.buffer, data.byteOffset, data.length);
    const lowest = Array.from({ length: channels }, (_, i) => view.getInt32(HEADER_BYTES + 4 * i, true));
    const decoder = await EntropyDecoder.open(data.subarray(start));
    const contexts = channels * (COARSEST + 1) * bins * classes;
    if (decoder.numContexts !== contexts || decoder.count % channels) {
      throw new Error(
        `Coded values must have ${contexts} contexts and a multiple of ${channels} symbols, ` +
          `not ${decoder.numContexts} and ${decoder.count}.`,
      );
    }
    return new ValuesDecoder(lowest, bins, classes, decoder);
  }

  constructor(lowest, bins, classes, decoder) {
    this.count = decoder.count / lowest.length;
    this.#lowest = lowest;
    this.#bins = bins;
    this.#classes = classes;
    this.#decoder = decoder;
  }

  /**
   * @param {Float64Array} cells x y z of each point on the grid, as `decodeCells` gives them.
   * @param {Uint8Array} coarseness 0, 1 or 2 for each point: how often its step doubles.
   * @returns {Float64Array} [points * channels] whole numbers of single steps, point by point.
   * @throws {Error} when the data is damaged.
   */
  decode(cells, coarseness = new Uint8Array(this.count)) {
    const channels = this.#lowest.length;
    const above = new Int32Array(this.count * channels);
    for (const { first, stride, step } of passes(this.count)) {
      const contexts = this.#contexts(above, cells, coarseness, first, stride, step);
      const symbols = this.#decoder.decode(contexts);
      for (let point = first, i = 0; point < this.count; point += stride) {
        for (let channel = 0; channel < channels; channel++) {
          above[point * channels + channel] = symbols[i++] << coarseness[point];
        }
      }
    }
    this.#decoder.finish();
    return this.#fromLowest(above, coarseness);
  }

  #fromLowest(above, coarseness) {
    const channels = this.#lowest.length;
    const values = new Float64Array(above.length);
    for (let i = 0; i < above.length; i++) {
      const size = 1 << coarseness[Math.floor(i / channels)];
      values[i] = Math.floor((above[i] + this.#lowest[i % channels]) / size) * size;
    }
    return values;
  }

  /** Contexts of the points first, first + stride ..., of each point's channels in turn. */
  #contexts(above, cells, coarseness, first, stride, step) {
    const channels = this.#lowest.length;
    const range = FRACTION * this.#decoder.alphabet;
    const [bins, classes] = [this.#bins, this.#classes];
    const contexts = new Uint16Array(Math.max(0, Math.ceil((this.count - first) / stride)) * channels);
    const around = new Neighborhood(cells, this.count);
    for (let point = first, i = 0; point < this.count; point += stride) {
      const shift = coarseness[point];
      around.look(point, step);
      for (let channel = 0; channel < channels; channel++) {
        const expected = around.expected(above, channels, channel);
        const binned = Math.min(Math.floor(((expected >> shift) * bins) / range), bins - 1);
        const classed = classes > 1 ? classOf(around.spread(above, channels, channel, expected) >> shift) : 0;
        contexts[i++] = ((channel * (COARSEST + 1) + shift) * bins + binned) * classes + classed;
      }
    }
    return contexts;
  }
}

/** Coarse to fine: which points a pass decodes, and how far along the curve the nearest known ones are. */
function* passes(count) {
  let step = 1;
  while (step < count) step *= 2;
  yield { first: 0, stride: Math.max(1, count), step };
  while (step > 1) {
    step /= 2;
    yield { first: step, stride: 2 * step, step };
  }
}

/** The known neighbours of a point, and what they make expect: in eighths of a single step, 0 without neighbours. */
class Neighborhood {
  constructor(cells, count) {
    this.cells = cells;
    this.count = count;
    this.points = new Int32Array(STRIDES.length);
    this.weights = new Int32Array(STRIDES.length);
  }

  /** Finds the neighbours of a point and weighs them by their nearness in space. */
  look(point, step) {
    const { cells, count, points, weights } = this;
    let size = 0;
    let total = 0;
    for (const stride of STRIDES) {
      const neighbor = point + stride * step;
      if (neighbor < 0 || neighbor >= count) continue;
      const x = cells[3 * neighbor] - cells[3 * point];
      const y = cells[3 * neighbor + 1] - cells[3 * point + 1];
      const z = cells[3 * neighbor + 2] - cells[3 * point + 2];
      points[size] = neighbor;
      weights[size] = Math.max(1, Math.floor(NEAREST / (x * x + y * y + z * z + 1)));
      total += weights[size++];
    }
    this.size = size;
    this.total = Math.max(1, total);
  }

  expected(above, channels, channel) {
    const { points, weights, size } = this;
    let sum = 0;
    for (let i = 0; i < size; i++) sum += weights[i] * (FRACTION * above[points[i] * channels + channel]);
    return Math.floor(sum / this.total);
  }

  spread(above, channels, channel, expected) {
    const { points, weights, size } = this;
    let sum = 0;
    for (let i = 0; i < size; i++) {
      sum += weights[i] * Math.abs(FRACTION * above[points[i] * channels + channel] - expected);
    }
    return Math.floor(sum / this.total);
  }
}

function classOf(spread) {
  let classed = 0;
  while (classed < SPREADS.length && SPREADS[classed] <= spread) classed++;
  return classed;
}
