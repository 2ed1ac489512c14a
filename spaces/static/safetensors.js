// Files of the safetensors format: 8 bytes that tell the size of a JSON text, the text, then the tensors' bytes.

const MAX_HEADER_BYTES = 100_000_000;

/**
 * @param {Uint8Array} data a whole file, of any origin.
 * @returns {{tensors: Map<string, {dtype: string, shape: number[], bytes: Uint8Array}>, metadata: object}}
 * @throws {Error} when the data is no such file, or the tensors do not fill it.
 */
export function readSafetensors(data) {
  check(data.length >= 8, `hold at least 8 bytes, not ${data.length}`);
  const size = Number(new DataView(data.buffer, data.byteOffset, 8).getBigUint64(0, true));
  const fits = size <= Math.min(MAX_HEADER_BYTES, data.length - 8);
  check(fits, `hold a header of ${size} bytes, but it is damaged or cut short`);
  const { __metadata__: metadata = {}, ...entries } = parse(data.subarray(8, 8 + size));
  const body = data.subarray(8 + size);
  const tensors = new Map();
  let end = 0;
  for (const [name, entry] of Object.entries(entries).sort(byOffset)) {
    check(Array.isArray(entry?.data_offsets) && Array.isArray(entry.shape), `say where ${name} lies and its shape`);
    const [from, to] = entry.data_offsets;
    const follows = from === end && Number.isInteger(to) && to >= from && to <= body.length;
    check(follows, `hold its tensors one after another, but ${name} is at ${from} to ${to}`);
    tensors.set(name, { dtype: entry.dtype, shape: entry.shape, bytes: body.subarray(from, to) });
    end = to;
  }
  check(end === body.length, `end after its last tensor at ${end} bytes, not at ${body.length}`);
  return { tensors, metadata };
}

function parse(bytes) {
  let header = null;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    // no text or no JSON: the check below says so
  }
  check(typeof header === "object" && header !== null && !Array.isArray(header), "begin with a JSON object");
  return header;
}

function byOffset([, one], [, other]) {
  return (one?.data_offsets?.[0] ?? 0) - (other?.data_offsets?.[0] ?? 0) || sizeOf(one) - sizeOf(other);
}

function sizeOf(entry) {
  return (entry?.data_offsets?.[1] ?? 0) - (entry?.data_offsets?.[0] ?? 0);
}

function check(condition, wanted) {
  if (!condition) throw new Error(`A safetensors file must ${wanted}.`);
}
