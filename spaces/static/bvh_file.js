// Clips as BVH, Biovision's text of a skeleton and its motion, which programs for animation read: Python's `write_bvh`.

import { rigOf } from "./joint_rotations.js";
import { matrixOf } from "./quaternions.js";

const POSITION = "Xposition Yposition Zposition";
const ROTATION = "Zrotation Xrotation Yrotation";
const TIPS = { 10: [0, 0, 0.05], 11: [0, 0, 0.05], 15: [0, 0.09, 0.01], 20: [0.1, 0, 0], 21: [-0.1, 0, 0] }; // of limbs
const LOCKED = 1e-7; // cosine of the middle angle below which the first is taken as 0

/**
 * A clip in metres and degrees, Y up, facing +Z at rest.
 * @param {Float32Array} joints [frames, 22, 3] in metres.
 * @param {{names: string[], parents: number[], framesPerSecond: number}} skeleton HumanML3D's.
 * @returns {string}
 */
export function bvhOf(joints, { names, parents, framesPerSecond }) {
  const rig = rigOf(joints, parents);
  const [lines, columns] = [["HIERARCHY"], []];
  const declare = (joint, depth) => {
    const indent = "\t".repeat(depth);
    const moves = depth === 0 || rig.loose.includes(joint);
    lines.push(`${indent}${depth ? "JOINT" : "ROOT"} ${names[joint]}`, `${indent}{`);
    lines.push(`${indent}\tOFFSET ${numbers(rig.offsets[joint])}`);
    lines.push(`${indent}\tCHANNELS ${moves ? `6 ${POSITION} ${ROTATION}` : `3 ${ROTATION}`}`);
    if (moves) columns.push(rig.places[joint]);
    columns.push(anglesOf(rig.rotations[joint]));
    for (const [child, parent] of parents.entries()) if (parent === joint) declare(child, depth + 1);
    if (joint in TIPS) {
      lines.push(`${indent}\tEnd Site`, `${indent}\t{`, `${indent}\t\tOFFSET ${numbers(TIPS[joint])}`, `${indent}\t}`);
    }
    lines.push(`${indent}}`);
  };
  declare(0, 0);
  const frames = rig.places[0].map((_, frame) => numbers(columns.flatMap((column) => column[frame])));
  lines.push("MOTION", `Frames: ${frames.length}`, `Frame Time: ${(1 / framesPerSecond).toFixed(6)}`, ...frames);
  return `${lines.join("\n")}\n`;
}

function numbers(values) {
  return values.map((value) => value.toFixed(6).replace(/^-(0\.0+)$/, "$1")).join(" ");
}

/** Degrees about Z, X and Y of each frame, of the two ways to say them the one nearer to the frame before. */
function anglesOf(rotations) {
  let before = null;
  return rotations.map((rotation) => {
    const [z, x, y] = eulerOf(matrixOf(rotation));
    const ways = [[z, x, y], [z + Math.PI, Math.PI - x, y + Math.PI]];
    const last = before;
    const near = ways.map((way) => (last === null ? way : way.map((angle, i) => nearest(angle, last[i]))));
    const far = (way) => way.reduce((sum, angle, i) => sum + Math.abs(angle - last[i]), 0);
    before = last === null || far(near[0]) <= far(near[1]) ? near[0] : near[1];
    return before.map((angle) => (180 / Math.PI) * angle);
  });
}

function nearest(angle, other) {
  return angle - 2 * Math.PI * Math.round((angle - other) / (2 * Math.PI));
}

/** Angles about Z, X and Y whose matrices' product Rz Rx Ry has these rows. */
function eulerOf(rows) {
  const x = Math.asin(Math.min(1, Math.max(-1, rows[2][1])));
  if (Math.hypot(rows[0][1], rows[1][1]) < LOCKED) return [0, x, Math.atan2(rows[0][2], rows[0][0])];
  return [Math.atan2(-rows[0][1], rows[1][1]), x, Math.atan2(-rows[2][0], rows[2][2])];
}
