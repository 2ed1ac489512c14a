// The predictor of all splats of a scene from its parents: hub_models/gaussians_lpgs.py, step by step.

import { HashGrid } from "./hash_grid.js";
import { Linear, Perceptron } from "./linear.js";

const BATCH = 512; // trees at once, a multiple of the rows that `Linear` takes
const START_OPACITY = 0.1;
const MAX_CHILD_LOG_SCALE = 4;

/** [name, numbers] of what `networks` of a file holds, in its order. */
export function parametersOf(config) {
  const { grid_dim: dim, head_width: width, children_per_parent: children } = config;
  const parameters = [];
  const linear = (name, inputs, outputs) =>
    parameters.push([`${name}.weight`, inputs * outputs], [`${name}.bias`, outputs]);
  const perceptron = (name, inputs, outputs) => {
    linear(`${name}.0`, inputs, width);
    linear(`${name}.2`, width, outputs);
  };
  if (config.encoding === "frequency") parameters.push(["grid.mix.bias", dim]);
  linear("attribute_features", dim, dim);
  linear("displacement_features", dim, dim);
  if (config.attention) {
    parameters.push(["tree_attention.gate", 1]);
    for (const name of ["query", "key", "value"]) linear(`tree_attention.${name}`, dim, dim);
  }
  const told = dim + 3 * config.mlp_position + config.mlp_distance;
  if (children) perceptron("position_head", dim, 3 * children);
  perceptron("shape_head", told, 3 + 4);
  perceptron("opacity_head", told, 1);
  perceptron("color_head", told, 3 * (config.sh_degree + 1) ** 2);
  return parameters;
}

/** The grid of a configuration; it tells sizes, and holds no numbers yet. */
export function gridOf(config) {
  const { grid_dim: dim, hash_levels: levels, hash_max_resolution: maxResolution } = config;
  if (config.encoding === "frequency") return new FrequencyGrid(dim, maxResolution);
  const [log2Size, baseResolution] = [config.hash_log2_size, config.hash_base_resolution];
  return new HashGrid({ levels, features: dim / levels, log2Size, baseResolution, maxResolution });
}

export class LPGSGaussians {
  /**
   * @param {object} config arguments of the Python class, by their names there.
   * @param {HashGrid|FrequencyGrid} grid of `gridOf`, with its table.
   * @param {Map<string, Float32Array>} weights by the names of `parametersOf`.
   */
  constructor(config, grid, weights) {
    const linear = (name) => new Linear(weights.get(`${name}.weight`), weights.get(`${name}.bias`));
    const perceptron = (name) => new Perceptron(linear(`${name}.0`), linear(`${name}.2`));
    this.config = config;
    this.nodes = 1 + config.children_per_parent; // of a tree
    this.grid = grid;
    if (config.encoding === "frequency") grid.bias = weights.get("grid.mix.bias");
    this.attributeFeatures = linear("attribute_features");
    this.displacementFeatures = linear("displacement_features");
    const [query, key, value] = ["query", "key", "value"].map((name) => `tree_attention.${name}`);
    const gate = weights.get("tree_attention.gate")?.[0];
    this.attention = config.attention ? new TreeAttention(linear(query), linear(key), linear(value), gate) : null;
    this.positionHead = config.children_per_parent ? perceptron("position_head") : null;
    this.shapeHead = perceptron("shape_head");
    this.opacityHead = perceptron("opacity_head");
    this.colorHead = perceptron("color_head");
  }

  /**
   * All splats, parents first, then first children, then second ones.
   * @param {Float32Array} means of the parents [3 * trees].
   * @param {Float32Array} logScales of the parents [3 * trees].
   * @param {(fraction: number, words: string) => void} progress
   * @returns {Gaussians} as `decodeSplats` gives them.
   */
  expand(means, logScales, progress = () => {}) {
    const trees = means.length / 3;
    const count = this.nodes * trees;
    const degree = this.config.sh_degree;
    const widths = { means: 3, logScales: 3, quaternions: 4, opacityLogits: 1, sh: 3 * (degree + 1) ** 2 };
    const splats = { count, degree };
    for (const [name, width] of Object.entries(widths)) splats[name] = new Float32Array(width * count);
    for (let first = 0; first < trees; first += BATCH) {
      const predicted = this.#predict(batchOf(means, first), batchOf(logScales, first));
      for (const [name, width] of Object.entries(widths)) {
        this.#place(predicted[name], splats[name], width, first, Math.min(BATCH, trees - first));
      }
      progress(Math.min(1, (first + BATCH) / trees), `${Math.min(trees, first + BATCH)} of ${trees} trees`);
    }
    return splats;
  }

  /** From tree after tree in a batch to node after node in the scene. */
  #place(batch, scene, width, first, trees) {
    const perNode = scene.length / this.nodes;
    for (let tree = 0, from = 0; tree < trees; tree++) {
      for (let node = 0; node < this.nodes; node++) {
        const to = node * perNode + (first + tree) * width;
        for (let i = 0; i < width; i++) scene[to + i] = batch[from++];
      }
    }
  }

  /** Attributes of the nodes of trees, the parent of each tree first: `forward` and `_attributes` in Python. */
  #predict(parentMeans, parentLogScales) {
    const positions = this.#positions(parentMeans, parentLogScales); // [trees, nodes, 3]
    const contracted = this.#contract(positions);
    let features = this.attributeFeatures.apply(this.grid.lookUp(contracted)); // [trees, nodes, dim]
    if (this.attention) features = this.attention.apply(features, this.nodes);
    const told = this.#told(features, contracted, positions, parentLogScales);
    const opacityLogits = this.opacityHead.apply(told).map((x) => x + Math.log(START_OPACITY / (1 - START_OPACITY)));
    const shapes = this.#shapes(this.shapeHead.apply(told), parentLogScales);
    return { means: positions, ...shapes, opacityLogits, sh: this.colorHead.apply(told) };
  }

  /** Where parents are, and where their children stand around them. */
  #positions(means, logScales) {
    if (this.nodes === 1) return means;
    const ofParents = this.displacementFeatures.apply(this.grid.lookUp(this.#contract(means)));
    const offsets = this.positionHead.apply(ofParents);
    const positions = new Float32Array(this.nodes * means.length);
    for (let tree = 0, to = 0, from = 0; tree < means.length / 3; tree++) {
      const radius = this.config.child_offset_radius * largestScale(logScales, tree);
      for (let axis = 0; axis < 3; axis++) positions[to++] = means[3 * tree + axis];
      for (let i = 0; i < 3 * (this.nodes - 1); i++) {
        positions[to++] = means[3 * tree + (i % 3)] + radius * Math.tanh(offsets[from++]);
      }
    }
    return positions;
  }

  /** Where in the unit cube of the grid points lie, each step rounded to single precision as in Python. */
  #contract(points) {
    const { center, radius, contraction } = this.config;
    const f = Math.fround;
    const [middle, size] = [Float32Array.from(center), f(radius)];
    const local = points.map((value, i) => f(value - middle[i % 3]) / size);
    if (contraction === "box") return local.map((value) => (Math.min(Math.max(value, -1), 1) + 1) / 2);
    for (let i = 0; i < local.length; i += 3) {
      const length = f(Math.sqrt(local[i] ** 2 + local[i + 1] ** 2 + local[i + 2] ** 2));
      const squeeze = length > 1 ? f(f(2 - f(1 / length)) / length) : 1;
      for (let axis = i; axis < i + 3; axis++) local[axis] = f(f(squeeze * local[axis]) + 2) / 4;
    }
    return local;
  }

  /** What the heads are told of each node: features, contracted position, and distance in its parent's scales. */
  #told(features, contracted, positions, logScales) {
    const { grid_dim: dim, mlp_position: position, mlp_distance: distance } = this.config;
    const count = positions.length / 3;
    const width = dim + 3 * position + distance;
    const told = new Float32Array(count * width);
    for (let node = 0; node < count; node++) {
      let to = node * width;
      for (let i = 0; i < dim; i++) told[to++] = features[node * dim + i];
      if (position) for (let axis = 0; axis < 3; axis++) told[to++] = contracted[3 * node + axis];
      if (distance) told[to] = this.#distance(positions, logScales, node);
    }
    return told;
  }

  #distance(positions, logScales, node) {
    const tree = Math.floor(node / this.nodes);
    const [at, from] = [3 * node, 3 * tree * this.nodes];
    const squares = [0, 1, 2].map((axis) => (positions[at + axis] - positions[from + axis]) ** 2);
    return Math.sqrt(squares[0] + squares[1] + squares[2]) / largestScale(logScales, tree);
  }

  /** Scales and rotations; the parent's own scale is the stored one. */
  #shapes(shape, parentLogScales) {
    const count = shape.length / 7;
    const [logScales, quaternions] = [new Float32Array(3 * count), new Float32Array(4 * count)];
    for (let node = 0; node < count; node++) {
      const tree = Math.floor(node / this.nodes);
      for (let axis = 0; axis < 3; axis++) {
        const change = Math.min(Math.max(shape[7 * node + axis], -MAX_CHILD_LOG_SCALE), MAX_CHILD_LOG_SCALE);
        logScales[3 * node + axis] = parentLogScales[3 * tree + axis] + (node % this.nodes > 0) * change;
      }
      for (let i = 0; i < 4; i++) quaternions[4 * node + i] = shape[7 * node + 3 + i] + (i === 0);
    }
    return { logScales, quaternions };
  }
}

/** Self-attention among the nodes of a tree, added through a gate. */
class TreeAttention {
  constructor(query, key, value, gate) {
    Object.assign(this, { query, key, value });
    this.share = 1 / (1 + Math.exp(-gate));
  }

  apply(features, nodes) {
    const [q, k, v] = [this.query, this.key, this.value].map((layer) => layer.apply(features));
    const dim = this.query.bias.length;
    const result = features.slice();
    const weights = new Float64Array(nodes);
    for (let node = 0; node < features.length / dim; node++) {
      const first = node - (node % nodes); // of its tree
      let largest = -Infinity;
      for (let other = 0; other < nodes; other++) {
        weights[other] = dot(q, k, node * dim, (first + other) * dim, dim) / Math.sqrt(dim);
        largest = Math.max(largest, weights[other]);
      }
      let sum = 0;
      for (let other = 0; other < nodes; other++) sum += weights[other] = Math.exp(weights[other] - largest);
      for (let other = 0; other < nodes; other++) {
        const weight = (this.share * weights[other]) / sum;
        for (let i = 0; i < dim; i++) result[node * dim + i] += weight * v[(first + other) * dim + i];
      }
    }
    return result;
  }
}

/** Sines and cosines of a position, learned by a layer whose weights stand in for a table. */
class FrequencyGrid {
  constructor(dim, maxFrequency) {
    const octaves = Math.max(2, Math.round(Math.log2(maxFrequency)) + 1);
    this.frequencies = Float32Array.from({ length: octaves }, (_, octave) => 2 * Math.PI * 2 ** octave);
    this.levelSizes = [6 * octaves * dim];
    this.table = null;
    this.bias = null;
  }

  lookUp(points) {
    const half = 3 * this.frequencies.length;
    const waves = new Float32Array((points.length / 3) * 2 * half);
    for (let i = 0; i < points.length; i++) {
      const to = Math.floor(i / 3) * 2 * half + (i % 3) * this.frequencies.length;
      this.frequencies.forEach((frequency, octave) => {
        const angle = Math.fround(points[i] * frequency);
        waves[to + octave] = Math.sin(angle);
        waves[to + half + octave] = Math.cos(angle);
      });
    }
    return new Linear(this.table, this.bias).apply(waves);
  }
}

/** Numbers of the next trees; zeros fill up the last batch. */
function batchOf(values, first) {
  const batch = new Float32Array(3 * BATCH);
  batch.set(values.subarray(3 * first, 3 * (first + BATCH)));
  return batch;
}

function largestScale(logScales, tree) {
  return Math.exp(Math.max(logScales[3 * tree], logScales[3 * tree + 1], logScales[3 * tree + 2]));
}

function dot(one, other, from, otherFrom, count) {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += one[from + i] * other[otherFrom + i];
  return sum;
}
