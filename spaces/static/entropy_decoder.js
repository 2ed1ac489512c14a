// Integers coded as hub_models/rendering/entropy_coding.py says, where the layout is: interleaved rANS.
// All numbers stay below 2^53, up to which floating-point arithmetic on integers is exact.

const HEADER_BYTES = 14;
const PRECISION = 15;
const TOTAL = 1 << PRECISION;
const STATE_FLOOR = 65536;
const SYMBOLS_A_LANE = 4096;
const MAX_COUNT = SYMBOLS_A_LANE * 65536;
const MAX_ALPHABET = 4096;
const MAX_TABLE_ENTRIES = 1 << 20;
const MAX_WEIGHT_BYTE = 1 + 8 * PRECISION;

/** Reads a coded sequence part by part. `count` is that of its symbols, `remaining` of those not yet decoded. */
export class EntropyDecoder {
  #starts;
  #frequencies;
  #states;
  #words;
  #nextWord = 0;

  /**
   * @param {Uint8Array} data what `encode` of entropy_coding.py made, of any origin.
   * @returns {Promise<EntropyDecoder>}
   * @throws {Error} when the data cannot be that, before anything larger than its tables is allocated.
   */
  static async open(data) {
    check(data.length >= HEADER_BYTES, `hold a header of ${HEADER_BYTES} bytes, not ${data.length} bytes`);
    const view = new DataView(data.buffer, data.byteOffset, data.length);
    const count = view.getUint32(0, true);
    const numContexts = view.getUint16(4, true);
    const alphabet = view.getUint16(6, true);
    const lanes = view.getUint16(8, true);
    checkSizes(count, numContexts, alphabet);
    const wanted = Math.max(1, Math.floor(count / SYMBOLS_A_LANE));
    check(lanes === wanted, `have ${wanted} lanes for ${count} symbols, not ${lanes}`);
    const statesAt = HEADER_BYTES + view.getUint32(10, true);
    const wordsAt = statesAt + 4 * lanes;
    check(wordsAt <= data.length, `hold ${wordsAt} bytes of tables and states, not ${data.length}`);
    check((data.length - wordsAt) % 2 === 0, "end with whole words of 2 bytes, not with half a word");
    const weights = await inflate(data.subarray(HEADER_BYTES, statesAt), numContexts * alphabet);
    const most = weights.reduce((largest, weight) => (weight > largest ? weight : largest), 0);
    check(most <= MAX_WEIGHT_BYTE, `have weights of at most ${MAX_WEIGHT_BYTE}, not ${most}`);
    const states = new Uint32Array(lanes).map((_, lane) => view.getUint32(statesAt + 4 * lane, true));
    check(states.every((state) => state >= STATE_FLOOR), `have states of at least ${STATE_FLOOR}, not a lower one`);
    const numWords = (data.length - wordsAt) / 2;
    const words = new Uint16Array(numWords).map((_, word) => view.getUint16(wordsAt + 2 * word, true));
    return new EntropyDecoder({ count, numContexts, alphabet, weights, states, words });
  }

  constructor({ count, numContexts, alphabet, weights, states, words }) {
    this.count = count;
    this.remaining = count;
    this.numContexts = numContexts;
    this.alphabet = alphabet;
    this.#frequencies = frequenciesOf(weights, alphabet);
    this.#starts = startsOf(this.#frequencies, alphabet);
    this.#states = states;
    this.#words = words;
  }

  /**
   * The symbols of the next part.
   * @param {Uint16Array} contexts one a symbol, each below `numContexts`.
   * @returns {Uint16Array}
   * @throws {Error} when the sequence is too short, or was not coded with these contexts.
   */
  decode(contexts) {
    check(contexts.length <= this.remaining, `hold ${contexts.length} more symbols, not ${this.remaining}`);
    this.remaining -= contexts.length;
    const [starts, frequencies, states, words] = [this.#starts, this.#frequencies, this.#states, this.#words];
    const symbols = new Uint16Array(contexts.length);
    let nextWord = this.#nextWord;
    for (let i = 0, lane = 0; i < contexts.length; i++) {
      const state = states[lane];
      const slot = state & (TOTAL - 1);
      const first = contexts[i] * this.alphabet;
      const entry = lastAtMost(starts, slot, first, first + this.alphabet);
      let next = frequencies[entry] * (state >>> PRECISION) + slot - starts[entry];
      if (next < STATE_FLOOR) next = next * 65536 + words[nextWord++];
      states[lane] = next;
      symbols[i] = entry - first;
      if (++lane === states.length) lane = 0;
    }
    check(nextWord <= words.length, `hold at least ${nextWord} words, not ${words.length}`);
    this.#nextWord = nextWord;
    return symbols;
  }

  /** @throws {Error} when symbols or words are left, or a state is not the one that encoding began with. */
  finish() {
    check(this.remaining === 0, `hold no symbol after the last, not ${this.remaining}`);
    const left = this.#words.length - this.#nextWord;
    check(left === 0, `hold no word after the last symbol, not ${left}`);
    const ended = this.#states.every((state) => state === STATE_FLOOR);
    check(ended, "end in the states it began with, but it is damaged");
  }
}

/** Index of the last of the ascending `values[low ... high - 1]` that is at most `value`; the first of them is. */
function lastAtMost(values, value, low, high) {
  while (high - low > 1) {
    const middle = (low + high) >>> 1;
    if (values[middle] <= value) low = middle;
    else high = middle;
  }
  return low;
}

/** Frequencies of sum 2^15 for each context; one without any symbol is given to symbol 0. */
function frequenciesOf(weights, alphabet) {
  const frequencies = new Uint16Array(weights.length);
  for (let first = 0; first < weights.length; first += alphabet) {
    const values = Uint16Array.from(weights.subarray(first, first + alphabet)).map(valueOf);
    let [sum, occurring] = [0, 0];
    for (const value of values) {
      sum += value;
      occurring += value > 0;
    }
    if (sum === 0) values[0] = sum = occurring = 1;
    let [spare, likeliest] = [TOTAL, 0];
    for (let symbol = 0; symbol < alphabet; symbol++) {
      if (values[symbol] === 0) continue;
      const frequency = 1 + Math.floor((values[symbol] * (TOTAL - occurring)) / sum);
      frequencies[first + symbol] = frequency;
      spare -= frequency;
      if (frequency > frequencies[first + likeliest]) likeliest = symbol;
    }
    frequencies[first + likeliest] += spare;
  }
  return frequencies;
}

function valueOf(weight) {
  return weight === 0 ? 0 : ((8 + ((weight - 1) % 8)) << Math.floor((weight - 1) / 8)) >> 3;
}

function startsOf(frequencies, alphabet) {
  const starts = new Uint16Array(frequencies.length);
  for (let entry = 0; entry < frequencies.length; entry++) {
    if (entry % alphabet) starts[entry] = starts[entry - 1] + frequencies[entry - 1];
  }
  return starts;
}

/** Raw deflate, never more than `size` bytes and a chunk of them. */
async function inflate(packed, size) {
  const raw = new Uint8Array(size);
  let filled = 0;
  try {
    const reader = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      if (filled + value.length <= size) raw.set(value, filled);
      filled += value.length;
      if (filled > size) {
        await reader.cancel();
        break;
      }
    }
  } catch (error) {
    throw new Error(`A coded sequence must hold deflated tables, but they cannot be inflated: ${error.message}`);
  }
  check(filled === size, `hold tables of ${size} bytes, not of another size`);
  return raw;
}

function checkSizes(count, numContexts, alphabet) {
  check(count < MAX_COUNT, `have fewer than ${MAX_COUNT} symbols, not ${count}`);
  check(numContexts >= 1, `have 1 to 65,535 contexts, not ${numContexts}`);
  const possible = alphabet >= 1 && alphabet <= MAX_ALPHABET;
  check(possible, `have an alphabet of 1 to ${MAX_ALPHABET} symbols, not ${alphabet}`);
  const entries = numContexts * alphabet;
  check(entries <= MAX_TABLE_ENTRIES, `have at most ${MAX_TABLE_ENTRIES} frequencies, not ${entries}`);
}

function check(condition, wanted) {
  if (!condition) throw new Error(`A coded sequence must ${wanted}.`);
}
