// A skeleton that animation files can move, found from places of joints: Python's `rig_of`, where every choice here is
// explained.

import { between, cross, dot, inverse, minus, ofAxes, product, rotated, shortestArc, unit } from "./quaternions.js";

const [PELVIS, CHEST] = [0, 9];
const AXES = { [PELVIS]: [1, 2, 3], [CHEST]: [13, 14, 12] }; // bones that tell a joint's turn: left, right and up
const SPINE = { 3: 1 / 3, 6: 2 / 3 }; // how far these share in the turn from pelvis to chest
const T_POSE = {
  4: [0, -1, 0], 5: [0, -1, 0], 7: [0, -1, 0], 8: [0, -1, 0], 10: [0, -0.5, 0.866], 11: [0, -0.5, 0.866],
  6: [0, 1, 0], 9: [0, 1, 0], 15: [0, 0.6, 0.8], 18: [1, 0, 0], 19: [-1, 0, 0], 20: [1, 0, 0], 21: [-1, 0, 0],
}; // directions of bones at rest; the others are a clip's averages
const SHORTEST_BONE = 1e-3; // metres below which a bone has no direction
const TURNED_BACK = -0.9; // cosine of the angle from rest below which the axis of the shortest rotation is unsteady
const STIFF = 1e-4; // metres by which a joint may leave its place in the parent's frame and still counts as fixed

/**
 * Rotations of the 22 joints of HumanML3D that move their bones as a clip does.
 * @param {Float32Array} joints [frames, 22, 3] in metres, Y up.
 * @param {number[]} parents of the joints, -1 of the pelvis.
 * @returns {{offsets: number[][], rotations: number[][][], places: number[][][], loose: number[]}} places of the joints
 *   at rest in their parent's frame; by joint and frame, quaternions in the parent's frame and places there; joints
 *   that do not stay at their offset. The pelvis is turned and placed in the world.
 */
export function rigOf(joints, parents) {
  const frames = joints.length / (3 * parents.length);
  const numbers = Array.from({ length: frames }, (_, frame) => frame);
  const at = (joint, frame) => Array.from(joints.subarray(3 * (frame * parents.length + joint)).subarray(0, 3));
  const bones = parents.map((parent, joint) => numbers.map((f) => minus(at(joint, f), at(Math.max(parent, 0), f))));
  const directions = bones.map((bone) => bone.map(directionOf));
  const world = {};
  for (const [joint, axes] of Object.entries(AXES)) world[joint] = turnOfAxes(...axes.map((bone) => bones[bone]));
  const offsets = restOf(bones, directions, parents, world);
  for (const [joint, parent] of parents.entries()) {
    if (joint in world) continue;
    const upTo = (frame) => between(world[PELVIS][frame], world[CHEST][frame], SPINE[joint]);
    const start = joint in SPINE ? numbers.map(upTo) : world[parent];
    const child = parents.indexOf(joint);
    world[joint] = child < 0 ? start : turned(start, offsets[child], directions[child]);
  }
  const rotations = parents.map((parent, joint) =>
    parent < 0 ? world[joint] : world[joint].map((turn, frame) => product(inverse(world[parent][frame]), turn)),
  );
  const places = parents.map((parent, joint) =>
    numbers.map((f) => (parent < 0 ? at(joint, f) : rotated(bones[joint][f], inverse(world[parent][f])))),
  );
  const strays = (joint) => places[joint].some((place) => Math.hypot(...minus(place, offsets[joint])) > STIFF);
  const loose = parents.flatMap((parent, joint) => (parent >= 0 && strays(joint) ? [joint] : []));
  return { offsets, rotations, places, loose };
}

/** Offsets at rest: directions of `T_POSE`, and averages around pelvis and chest; lengths are averages. */
function restOf(bones, directions, parents, world) {
  return parents.map((parent, joint) => {
    if (parent < 0) return [0, 0, 0];
    const seen = (ways, from) => average(ways[joint].map((way, frame) => rotated(way, inverse(world[from][frame]))));
    if (parent in AXES) return seen(bones, parent);
    const direction = unit(T_POSE[joint] ?? seen(directions, joint in SPINE ? PELVIS : CHEST));
    const length = bones[joint].reduce((sum, way) => sum + Math.hypot(...way), 0) / bones[joint].length;
    return direction.map((value) => value * length);
  });
}

/** World rotations of a frame whose X goes across from right to left and whose Y goes up, by bones. */
function turnOfAxes(lefts, rights, ups) {
  const sure = [];
  const turns = lefts.map((left, frame) => {
    const across = minus(left, rights[frame]);
    const x = unit(across);
    const forward = cross(x, unit(ups[frame]));
    sure.push(Math.hypot(...across) > SHORTEST_BONE && Math.hypot(...forward) > 0.1);
    const z = unit(forward);
    return ofAxes(x, cross(z, x), z);
  });
  return filled(turns, sure);
}

/** World rotations that take a bone's offset to its directions, the shortest way from `start`. */
function turned(start, offset, directions) {
  const sure = [];
  const shortest = start.map((turn, frame) => {
    const before = unit(rotated(offset, turn));
    sure.push(directions[frame].some(Boolean) && dot(before, directions[frame]) > TURNED_BACK);
    return product(inverse(turn), product(shortestArc(before, directions[frame]), turn));
  });
  return filled(shortest, sure).map((turn, frame) => {
    const steady = product(start[frame], turn);
    if (!directions[frame].some(Boolean)) return steady;
    return product(shortestArc(rotated(offset, steady), directions[frame]), steady);
  });
}

/** Rotations of frames, those that are not sure put between the sure ones around them. */
function filled(rotations, sure) {
  return rotations.map((own, frame) => {
    if (sure[frame]) return own;
    const [before, after] = [sure.lastIndexOf(true, frame), sure.indexOf(true, frame)];
    if (before < 0 && after < 0) return [1, 0, 0, 0];
    if (before < 0 || after < 0) return rotations[Math.max(before, after)];
    return between(rotations[before], rotations[after], (frame - before) / (after - before));
  });
}

function directionOf(bone) {
  return Math.hypot(...bone) < SHORTEST_BONE ? [0, 0, 0] : unit(bone);
}

function average(vectors) {
  return [0, 1, 2].map((axis) => vectors.reduce((sum, vector) => sum + vector[axis], 0) / vectors.length);
}
