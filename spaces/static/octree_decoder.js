// Points on an integer grid, coded as hub_models/rendering/octree_coding.py says, where the layout is.

import { EntropyDecoder } from "./entropy_decoder.js";

const HEADER_BYTES = 13;
const MAX_DEPTH = 20;
const MANY = 255;

/**
 * Integer coordinates x y z of each point, in Morton order.
 * @param {Uint8Array} data what `encode_cells` of octree_coding.py made, of any origin.
 * @param {number} count the points that it must hold.
 * @returns {Promise<Float64Array>} [3 * count]; whole numbers.
 * @throws {Error} when the data cannot be that.
 */
export async function decodeCells(data, count) {
  if (data.length < HEADER_BYTES) {
    throw new Error(`Coded cells must hold a header of ${HEADER_BYTES} bytes, not ${data.length} bytes.`);
  }
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  const depth = view.getUint8(0);
  const corner = [1, 5, 9].map((offset) => view.getInt32(offset, true));
  const decoder = await EntropyDecoder.open(data.subarray(HEADER_BYTES));
  if (depth > MAX_DEPTH || decoder.numContexts !== depth + 1) {
    throw new Error(
      `Coded cells must have a depth of at most ${MAX_DEPTH} and a context a level, ` +
        `not a depth of ${depth} and ${decoder.numContexts} contexts.`,
    );
  }
  let nodes = new Int32Array(3 * Math.min(count, 1));
  for (let level = 0; level < (count ? depth : 0); level++) {
    nodes = childrenOf(nodes, decoder.decode(new Uint16Array(nodes.length / 3).fill(level)));
    const occupied = nodes.length / 3; // no more than there are points, or they grow without bound
    if (occupied > count) throw new Error(`Coded cells must have at most ${count} occupied cells, not ${occupied}.`);
  }
  const points = decodePoints(decoder, nodes.length / 3, depth);
  decoder.finish();
  const held = points.reduce((sum, more) => sum + more, 0);
  if (held !== count) throw new Error(`Coded cells must hold ${count} points, not ${held}.`);
  return repeated(nodes, points, corner, count);
}

/** The occupied children of nodes; bit 0 of a child's number is its x, bit 1 its y, bit 2 its z. */
function childrenOf(nodes, occupancyLessOne) {
  const children = [];
  for (let node = 0; node < occupancyLessOne.length; node++) {
    for (let child = 0; child < 8; child++) {
      if (((occupancyLessOne[node] + 1) >> child) & 1) {
        children.push(
          2 * nodes[3 * node] + (child & 1),
          2 * nodes[3 * node + 1] + ((child >> 1) & 1),
          2 * nodes[3 * node + 2] + (child >> 2),
        );
      }
    }
  }
  return Int32Array.from(children);
}

/** How many points each leaf holds. */
function decodePoints(decoder, numLeaves, context) {
  const points = new Float64Array(numLeaves).fill(1);
  let full = Uint32Array.from(points.keys());
  while (full.length) {
    const more = decoder.decode(new Uint16Array(full.length).fill(context));
    full.forEach((leaf, i) => (points[leaf] += more[i]));
    full = full.filter((_, i) => more[i] === MANY);
  }
  return points;
}

function repeated(leaves, points, corner, count) {
  const cells = new Float64Array(3 * count);
  for (let leaf = 0, at = 0; leaf < points.length; leaf++) {
    for (let point = 0; point < points[leaf]; point++) {
      for (let axis = 0; axis < 3; axis++) cells[at++] = leaves[3 * leaf + axis] + corner[axis];
    }
  }
  return cells;
}
