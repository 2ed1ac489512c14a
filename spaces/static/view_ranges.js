// From where a light field may be looked at: Python's pipelines/view_ranges.py, of which these are the twins.

import { cross, dot, unit } from "./quaternions.js";

const LOOP_SHARE = 0.7; // of the half sides of a grid's area, or of an orbit's elevations, that a path runs along
const NODS = 2; // times that a path around an orbit goes up and down
const RADIANS_ACROSS = 3; // of a hand that turns, from one end of a grid to the other
const DEGREE = Math.PI / 180;
const DIRECTIONS = { x: [1, 0, 0], y: [0, 1, 0], z: [0, 0, 1], "-x": [-1, 0, 0], "-y": [0, -1, 0], "-z": [0, 0, -1] };

/** What every range knows of its pictures: focal [fx, fy], width and height in pixels. */
class ViewRange {
  /** @param {object} stored its fields, as Python's `to_config` gives them. */
  constructor(stored) {
    Object.assign(this, stored);
  }

  /**
   * The camera at a place, whose ends are -1 and 1.
   * @returns {{viewmat: number[], K: number[], eye: number[]}} world to camera [16] and intrinsics [9], row after row,
   *   and where it stands.
   */
  camera(right, up) {
    const { axes, eye, shift } = this.placed(right, up);
    const viewmat = [...axes.flatMap((axis) => [...axis, -dot(axis, eye)]), 0, 0, 0, 1];
    const [fx, fy] = this.focal;
    return { viewmat, K: [fx, 0, this.width / 2 + fx * shift[0], 0, fy, this.height / 2 + fy * shift[1], 0, 0, 1], eye };
  }
}

/** Cameras on a plane, of which none is turned: what they see moves by a shift of the principal point. */
export class GridViews extends ViewRange {
  /** How far a hand turns from one end to the other, to the right and up, in radians. */
  get reach() {
    return [RADIANS_ACROSS, RADIANS_ACROSS];
  }

  /** Whether the right end is the left end. */
  get closed() {
    return false;
  }

  /** The place on a closed path at a share of it in [0, 1]. */
  onPath(share) {
    return [LOOP_SHARE * Math.sin(2 * Math.PI * share), LOOP_SHARE * Math.cos(2 * Math.PI * share)];
  }

  /** A place in words. */
  words(right, up) {
    return `right ${right.toFixed(2)} · up ${up.toFixed(2)}`;
  }

  placed(right, up) {
    const [x, y] = [right * this.half_width, -up * this.half_height];
    const axes = [0, 4, 8].map((row) => this.viewmat.slice(row, row + 3));
    const moved = [x - this.viewmat[3], y - this.viewmat[7], -this.viewmat[11]]; // in the frame of the middle camera
    const eye = [0, 1, 2].map((i) => axes.reduce((sum, axis, j) => sum + axis[i] * moved[j], 0));
    return { axes, eye, shift: this.focus === null ? [0, 0] : [x / this.focus, y / this.focus] };
  }
}

/** Cameras around a point, at which all look. */
export class OrbitViews extends ViewRange {
  get reach() {
    return [2 * Math.PI, (this.high - this.low) * DEGREE];
  }

  get closed() {
    return true;
  }

  onPath(share) {
    return [2 * share - 1, LOOP_SHARE * Math.sin(2 * Math.PI * NODS * share)];
  }

  words(right, up) {
    return `azimuth ${(180 * right).toFixed(0)}° · elevation ${this.elevation(up).toFixed(0)}°`;
  }

  /** In degrees, at a place. */
  elevation(up) {
    return (this.low + this.high + up * (this.high - this.low)) / 2;
  }

  placed(right, up) {
    const axis = DIRECTIONS[this.up];
    const turned = axis.findIndex((value) => value !== 0);
    const [azimuth, elevation] = [Math.PI * right, this.elevation(up) * DEGREE];
    const around = [0, 0, 0];
    around[(turned + 1) % 3] = Math.cos(azimuth);
    around[(turned + 2) % 3] = axis[turned] * Math.sin(azimuth);
    const outward = axis.map((value, i) => Math.cos(elevation) * around[i] + Math.sin(elevation) * value);
    const eye = this.center.map((value, i) => value + this.distance * outward[i]);
    const forward = outward.map((value) => -value);
    const rightward = unit(cross(forward, axis));
    return { axes: [rightward, cross(forward, rightward), forward], eye, shift: [0, 0] };
  }
}

const RANGES = { grid: GridViews, orbit: OrbitViews };

/** That of fields as Python's `to_config` gives them. */
export function viewsOf(stored) {
  return new RANGES[stored.kind](stored);
}
