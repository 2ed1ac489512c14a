// Normal random numbers as torch draws them on a CPU, so that a seed gives the same picture here and in Python.

const WORDS = 624;
const MIDDLE = 397;

/** The Mersenne Twister mt19937, seeded as `torch.Generator().manual_seed(seed)` seeds it: by the low 32 bits. */
export class MersenneTwister {
  constructor(seed) {
    this.state = new Uint32Array(WORDS);
    this.state[0] = Number(BigInt(seed) & 0xffffffffn);
    for (let i = 1; i < WORDS; i++) {
      const previous = this.state[i - 1] ^ (this.state[i - 1] >>> 30);
      this.state[i] = (Math.imul(1812433253, previous) + i) >>> 0;
    }
    this.next = WORDS;
  }

  /** The next whole number in [0, 2^32). */
  word() {
    if (this.next === WORDS) this.#twist();
    let y = this.state[this.next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    y ^= y >>> 18;
    return y >>> 0;
  }

  /** The next float in [0, 1) with torch's 24 bits. */
  uniform() {
    return (this.word() & 0xffffff) / 0x1000000;
  }

  #twist() {
    const s = this.state;
    for (let i = 0; i < WORDS; i++) {
      const y = (s[i] & 0x80000000) | (s[(i + 1) % WORDS] & 0x7fffffff);
      s[i] = s[(i + MIDDLE) % WORDS] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.next = 0;
  }
}

/**
 * `torch.randn(count, generator=torch.Generator().manual_seed(seed))`, equal up to float32 rounding.
 * Torch draws fewer than 16 numbers in another way, which is not needed for pictures: count must be at least 16.
 */
export function randn(seed, count) {
  if (count < 16) throw new RangeError(`count must be at least 16, not ${count}.`);
  const generator = new MersenneTwister(seed);
  const values = Float32Array.from({ length: count }, () => generator.uniform());
  for (let start = 0; start + 16 <= count; start += 16) boxMuller(values, start);
  if (count % 16) {
    const start = count - 16;
    for (let i = 0; i < 16; i++) values[start + i] = generator.uniform();
    boxMuller(values, start);
  }
  return values;
}

/** Turns 16 uniform numbers into 16 normal ones: the first eight give radii, the last eight angles. */
function boxMuller(values, start) {
  for (let i = start; i < start + 8; i++) {
    const radius = Math.sqrt(-2 * Math.log(1 - values[i]));
    const angle = 2 * Math.PI * values[i + 8];
    values[i] = radius * Math.cos(angle);
    values[i + 8] = radius * Math.sin(angle);
  }
}
