// The exported networks of a bundle, run by onnxruntime-web on the CPU of this browser.

import * as ort from "./ort/ort.wasm.bundle.min.mjs";

const ARRAYS = { float32: Float32Array, int32: Int32Array };

ort.env.wasm.numThreads = 1; // more threads need headers that a plain static host does not send
ort.env.wasm.wasmPaths = { wasm: new URL("./ort/ort-wasm-simd-threaded.wasm", import.meta.url).href };

export class Networks {
  /** @param {object} contract @param {Map<string, ort.InferenceSession>} sessions */
  constructor(contract, sessions) {
    this.contract = contract;
    this.sessions = sessions;
    this.components = new Map(contract.components.map((component) => [component.name, component]));
  }

  /**
   * Fetches the networks that `contract.json` names and prepares them.
   * @param {string} folder address of the bundle, ending in a slash.
   * @param {(fraction: number, words: string) => void} progress of the download, in [0, 1].
   * @param {((file: Uint8Array, layout: object) => Uint8Array) | null} unpack makes the weights of those networks whose
   *   graphs have none, out of the files that `packed.json` names; null where there is no such network.
   */
  static async load(folder, progress = () => {}, unpack = null) {
    const contract = await fetchJson(`${folder}contract.json`);
    const layouts = unpack ? await fetchJson(`${folder}packed.json`) : {};
    const names = contract.components.map((component) => component.name);
    const packed = Object.keys(layouts);
    const wanted = [...names.map((name) => `${name}.onnx`), ...packed.map((name) => layouts[name].file)];
    const files = await fetchAll(wanted.map((name) => `${folder}${name}`), progress);
    const sessions = new Map();
    for (const [i, name] of names.entries()) {
      const layout = layouts[name];
      const weights = () => unpack(files[names.length + packed.indexOf(name)], layout);
      const externalData = layout ? [{ path: layout.data, data: weights() }] : [];
      const options = { executionProviders: ["wasm"], externalData };
      sessions.set(name, await ort.InferenceSession.create(files[i], options));
    }
    return new Networks(contract, sessions);
  }

  /**
   * Runs a network.
   * @param {string} name of a component in the contract.
   * @param {Record<string, ArrayLike<number>>} inputs numbers of each input, row after row.
   * @returns {Promise<Float32Array>} the numbers of its first output.
   */
  async run(name, inputs) {
    return (await this.runAll(name, inputs))[this.components.get(name).outputs[0].name];
  }

  /** As `run`, with the numbers of all outputs by their names. */
  async runAll(name, inputs) {
    const feeds = {};
    for (const { name: input, shape, dtype } of this.components.get(name).inputs) {
      const data = ARRAYS[dtype].from(inputs[input]);
      const row = shape.slice(1).reduce((product, size) => product * size, 1);
      feeds[input] = new ort.Tensor(dtype, data, [data.length / row, ...shape.slice(1)]);
    }
    const outputs = await this.sessions.get(name).run(feeds);
    return Object.fromEntries(Object.entries(outputs).map(([output, { data }]) => [output, data]));
  }
}

/** @throws {Error} naming the file when it cannot be fetched. */
export async function fetchJson(address) {
  return (await fetchFile(address)).json();
}

async function fetchFile(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address} cannot be fetched: status ${response.status}.`);
  return response;
}

async function fetchAll(addresses, progress) {
  const responses = await Promise.all(addresses.map(fetchFile));
  const sizes = responses.map((response) => Number(response.headers.get("Content-Length") ?? 0));
  const total = sizes.reduce((sum, size) => sum + size, 0);
  let done = 0;
  const advance = (bytes) => {
    done += bytes;
    const megabytes = (count) => (count / 1e6).toFixed(1);
    progress(total ? Math.min(1, done / total) : 0, `${megabytes(done)} of ${megabytes(total)} MB`);
  };
  return Promise.all(responses.map((response) => readAll(response, advance)));
}

async function readAll(response, advance) {
  const chunks = [];
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return new Uint8Array(await new Blob(chunks).arrayBuffer());
    chunks.push(value);
    advance(value.length);
  }
}
