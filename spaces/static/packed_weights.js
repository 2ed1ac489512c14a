// Weights of a network out of a packed safetensors file, as the external data of its graph wants them.

import { halvesToFloats } from "./half_precision.js";
import { unpackDigits } from "./radix_unpacking.js";
import { readSafetensors } from "./safetensors.js";

/**
 * @param {Uint8Array} file a safetensors file with `words` and `scales` of low-bit layers among its tensors.
 * @param {{bytes: number, tensors: object[]}} layout where each tensor of the graph lies and what it is made of: that
 *   of one network in `packed.json`.
 * @returns {Uint8Array} `layout.bytes` of external data.
 * @throws {Error} when the file lacks a tensor or holds another than the layout says.
 */
export function unpackWeights(file, layout) {
  const { tensors } = readSafetensors(file);
  const take = (name, dtype) => {
    const tensor = tensors.get(name);
    const found = tensor ? tensor.dtype : "nothing";
    if (!dtype.includes(found)) throw new Error(`Packed weights must hold ${name} as ${dtype.join(" or ")}, not ${found}.`);
    return tensor;
  };
  const data = new Uint8Array(layout.bytes);
  for (const entry of layout.tensors) {
    const bytes = entry.bits ? decodeLayer(entry, take) : plainTensor(entry, take);
    if (bytes.length !== entry.length) {
      throw new Error(`Packed weights must give ${entry.length} bytes of ${entry.name}, not ${bytes.length}.`);
    }
    data.set(bytes, entry.offset);
  }
  return data;
}

/** Levels times scales, which are exact in float32; transposed where the graph multiplies from the other side. */
function decodeLayer({ name, bits, shape, transposed }, take) {
  const [lowest, count] = levels(bits);
  const scales = halvesToFloats(take(`${name}.scales`, ["F16"]).bytes);
  const total = shape.reduce((product, size) => product * size, 1);
  const digits = unpackDigits(take(`${name}.words`, ["I64"]).bytes, total, count);
  const columns = total / scales.length;
  const weights = new Float32Array(total);
  const [rowStep, columnStep] = transposed ? [1, scales.length] : [columns, 1];
  for (let row = 0, i = 0; row < scales.length; row++) {
    for (let column = 0, at = row * rowStep; column < columns; column++, at += columnStep) {
      weights[at] = (digits[i++] + lowest) * scales[row];
    }
  }
  return bytesOf(weights);
}

/** What is not packed, in float32, but for tables, which stay in half precision. */
function plainTensor({ name, half }, take) {
  const { dtype, bytes } = take(name, half ? ["F16"] : ["F16", "F32"]);
  return half || dtype === "F32" ? bytes : bytesOf(halvesToFloats(bytes));
}

/** The lowest level of so many bits, and how many there are. */
function levels(bits) {
  return [-(2 ** (bits - 1)), bits === 8 ? 256 : 2 ** bits + 1];
}

function bytesOf(numbers) {
  return new Uint8Array(numbers.buffer);
}
