// A path drawn on the floor, as the way that the pelvis takes over the frames of a clip: Python's `DrawnPath`.

import { roundToEven } from "./rounding.js";

const FRAMES_PER_SECOND = 20;
const WALKING = 1.07; // metres a second of a person who walks
const START_UP = 0.8; // seconds in which one comes to this speed from rest, and back

export class DrawnPath {
  /** @param {number[][]} points x and z in metres, at least one; the pelvis is led to the first from the origin. */
  constructor(points) {
    this.points = [[0, 0], ...points];
    this.distances = [0]; // along the path, from its first point to each
    for (let i = 1; i < this.points.length; i++) {
      const [[x, z], [nextX, nextZ]] = [this.points[i - 1], this.points[i]];
      this.distances.push(this.distances[i - 1] + Math.hypot(nextX - x, nextZ - z));
    }
  }

  /** Its length. */
  get metres() {
    return this.distances.at(-1);
  }

  /** Frames of a clip in which it is walked from rest to rest; at least 2. */
  get walkingFrames() {
    return Math.max(2, 1 + roundToEven(FRAMES_PER_SECOND * (this.metres / WALKING + START_UP)));
  }

  /**
   * x and z at each frame: from the first point to the last at an even speed, from rest to rest.
   * @param {number} frames at least 2.
   * @returns {number[][]}
   */
  places(frames) {
    return progress(frames).map((share) => this.#placeAt(share * this.metres));
  }

  #placeAt(distance) {
    const before = this.distances.findLastIndex((own) => own <= distance);
    if (before === this.points.length - 1) return this.points.at(-1);
    const share = (distance - this.distances[before]) / (this.distances[before + 1] - this.distances[before]);
    const [from, to] = this.points.slice(before, before + 2);
    return from.map((start, axis) => start + share * (to[axis] - start));
  }
}

/** Part of a way, from 0 to 1, that is behind one at each frame: the speed rises smoothly, stays, and falls. */
function progress(frames) {
  const end = (frames - 1) / FRAMES_PER_SECOND;
  const covered = [0];
  for (let step = 0; step < frames - 1; step++) {
    const between = (step + 0.5) / FRAMES_PER_SECOND;
    const nearer = Math.min(1, Math.min(between, end - between) / Math.min(START_UP, end / 2));
    covered.push(covered[step] + nearer ** 2 * (3 - 2 * nearer));
  }
  return covered.map((share) => share / covered.at(-1));
}
