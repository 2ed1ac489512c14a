// Numbers of 16 bits: a sign, 5 bits of exponent and 10 of fraction (IEEE 754 binary16).

/**
 * @param {Uint8Array} bytes two a number, the lower one first.
 * @returns {Float32Array} the same numbers, infinities and NaN among them.
 */
export function halvesToFloats(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return new Float32Array(bytes.length >> 1).map((_, i) => floatOf(view.getUint16(2 * i, true)));
}

function floatOf(half) {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const fraction = (half & 1023) / 1024;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? (1 + fraction) * 2 ** (exponent - 15) : fraction * 2 ** -14);
}
