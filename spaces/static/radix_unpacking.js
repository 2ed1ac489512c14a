// Digits of any base in 64-bit words: the twin of hub_models/layers/radix_packing.py.

const LARGEST_TABLE = 1 << 16; // rows of a table from a word's part to digits

/** The most digits that 64 bits hold. */
export function digitsPerWord(base) {
  let digits = 0;
  for (let power = 1n; power * BigInt(base) <= 1n << 64n; power *= BigInt(base)) digits++;
  return digits;
}

/**
 * @param {Uint8Array} words eight bytes each, the lowest first; a word's first digit is its lowest.
 * @param {number} count how many digits they hold.
 * @param {number} base from 2 to 256.
 * @returns {Uint8Array} the digits.
 * @throws {Error} when the words are too few or too many, or hold more than so many digits.
 */
export function unpackDigits(words, count, base) {
  const perWord = digitsPerWord(base);
  const needed = Math.ceil(count / perWord);
  check(words.length === 8 * needed, `be ${8 * needed} bytes for ${count} digits of base ${base}, not ${words.length}`);
  const { atOnce, divisor, table } = digitTable(base);
  const view = new DataView(words.buffer, words.byteOffset, words.length);
  const digits = new Uint8Array(count);
  for (let word = 0, start = 0; word < needed; word++, start += perWord) {
    let low = view.getUint32(8 * word, true);
    let high = view.getUint32(8 * word + 4, true);
    const end = Math.min(start + perWord, count);
    for (let at = start; at < end; at += atOnce) {
      // Long division by 16 bits at a time: a remainder is below 2^16, so that no dividend reaches 2^32.
      const top = Math.floor(high / 65536 / divisor);
      let rest = (high >>> 16) % divisor;
      let dividend = rest * 65536 + (high & 65535);
      high = top * 65536 + Math.floor(dividend / divisor);
      rest = dividend % divisor;
      dividend = rest * 65536 + (low >>> 16);
      const middle = Math.floor(dividend / divisor);
      rest = dividend % divisor;
      dividend = rest * 65536 + (low & 65535);
      low = middle * 65536 + Math.floor(dividend / divisor);
      const row = (dividend % divisor) * atOnce;
      const wanted = Math.min(atOnce, end - at);
      for (let i = 0; i < wanted; i++) digits[at + i] = table[row + i];
      for (let i = wanted; i < atOnce; i++) check(table[row + i] === 0, `hold ${end - start} digits of base ${base}`);
    }
    check(low === 0 && high === 0, `hold ${end - start} digits of base ${base}`);
  }
  return digits;
}

const tables = new Map();

function digitTable(base) {
  if (!tables.has(base)) {
    const atOnce = Math.floor(Math.log(LARGEST_TABLE) / Math.log(base) + 1e-9);
    const divisor = base ** atOnce;
    const table = new Uint8Array(divisor * atOnce);
    for (let number = 0, at = 0; number < divisor; number++) {
      for (let place = 0, rest = number; place < atOnce; place++, rest = Math.floor(rest / base)) {
        table[at++] = rest % base;
      }
    }
    tables.set(base, { atOnce, divisor, table });
  }
  return tables.get(base);
}

function check(condition, wanted) {
  if (!condition) throw new Error(`Packed words must ${wanted}.`);
}
