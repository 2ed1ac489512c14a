// A person who moves on a canvas: metres, Y up, a grid of half metres for the floor; dragging turns it, see
// OrbitControls.

import { FIELD_OF_VIEW, OrbitCamera } from "./orbit_camera.js";
import { OrbitControls } from "./orbit_controls.js";

const UP = [0, 1, 0];
const VIEW = { center: [0, 0.8, 0], distance: 4.2, azimuth: 35, elevation: 20 };
const FOLLOWING = 10; // frames before and after, over which the camera's way is averaged
const [SQUARE, HORIZON] = [0.5, 5]; // metres: of the grid, and how far away it fades to nothing
const NEAREST = 0.05; // metres before the camera, where nothing is drawn
const RADII = {
  spine1: 0.11, spine2: 0.11, spine3: 0.115, neck: 0.07, head: 0.055, hip: 0.1, collar: 0.08, shoulder: 0.065,
  knee: 0.07, ankle: 0.047, foot: 0.037, elbow: 0.047, wrist: 0.037,
}; // of the limb that ends at a joint
const SKULL = 0.1; // its radius
const TRUNK = ["hip", "collar", "shoulder"]; // left and right ones are not told apart
const COLORS = { left: "#2a8ca8", right: "#db7d38", trunk: "#64748b", head: "#deb899", target: "#d62728" };
const OUTLINE = 0.008; // metres around a limb, a little darker

export class MotionPlayer {
  #frame = 0;
  #last = null;
  #asked = null;

  /**
   * @param {HTMLCanvasElement} canvas drawn at the size that the page gives it; lines have its text's colour.
   * @param {{names: string[], parents: number[], framesPerSecond: number}} skeleton joints with the number of the one
   *   above each, -1 for the first.
   * @param {(frame: number) => void} changed called when it plays or pauses, and after each frame that is drawn.
   */
  constructor(canvas, { names, parents, framesPerSecond }, changed = () => {}) {
    Object.assign(this, { canvas, framesPerSecond, changed, playing: false, joints: null, targets: [] });
    this.size = 3 * parents.length;
    this.limbs = limbsOf(names, parents);
    this.camera = new OrbitCamera(VIEW, UP, 1);
    this.controls = new OrbitControls(canvas, () => (this.joints === null ? null : this.camera), () => this.draw());
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  get frames() {
    return this.joints === null ? 0 : this.joints.length / this.size;
  }

  get frame() {
    return this.#frame;
  }

  /**
   * Shows a motion from its first frame on, and plays it over and over where people have not asked for less motion.
   * @param {Float32Array} joints [frames, joints, 3].
   * @param {{frame: number, position: number[]}[]} targets that joints were to reach; those of the frame are larger.
   * @throws {Error} when the numbers are of no whole frames.
   */
  show(joints, targets = []) {
    if (joints.length === 0 || joints.length % this.size) {
      throw new Error(`joints must be frames of ${this.size} numbers, not ${joints.length} numbers.`);
    }
    Object.assign(this, { joints, targets });
    this.way = Array.from({ length: this.frames }, (_, frame) => this.#joint(0, frame));
    this.course = averaged(this.way);
    this.seek(0);
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) this.pause();
    else this.play();
  }

  /** Goes to a frame, the nearest that there is. */
  seek(frame) {
    this.#frame = Math.min(Math.max(Math.round(frame), 0), this.frames - 1);
    this.#last = null;
    this.draw();
  }

  play() {
    this.playing = this.joints !== null;
    this.#last = null;
    this.#asked ??= requestAnimationFrame((now) => this.#tick(now));
    this.changed(this.#frame);
  }

  pause() {
    this.playing = false;
    this.changed(this.#frame);
  }

  #tick(now) {
    this.#asked = null;
    if (!this.playing) return;
    this.#last ??= now;
    const passed = Math.floor(((now - this.#last) * this.framesPerSecond) / 1000);
    if (passed > 0) {
      this.#last += (1000 * passed) / this.framesPerSecond;
      this.#frame = (this.#frame + passed) % this.frames;
      this.draw();
    }
    this.#asked = requestAnimationFrame((next) => this.#tick(next));
  }

  /** Draws the frame anew. */
  draw() {
    const { canvas } = this;
    const scale = window.devicePixelRatio;
    canvas.width = Math.max(1, Math.round(scale * canvas.clientWidth));
    canvas.height = Math.max(1, Math.round(scale * canvas.clientHeight));
    if (this.joints === null) return;
    const pen = canvas.getContext("2d");
    pen.lineCap = pen.lineJoin = "round";
    this.#drawFloor(pen);
    this.#drawTargets(pen, (frame) => frame !== this.#frame, 0.016);
    this.#drawLimbs(pen);
    this.#drawTargets(pen, (frame) => frame === this.#frame, 0.035);
    this.changed(this.#frame);
  }

  /** Where a place of the world is on the canvas: x and y in its pixels, and how many of them are a metre there. */
  project(place) {
    const { canvas } = this;
    const [x, y, z] = this.#seen(place);
    const focal = canvas.height / (2 * Math.tan((FIELD_OF_VIEW * Math.PI) / 360));
    return { x: canvas.width / 2 + (focal * x) / z, y: canvas.height / 2 + (focal * y) / z, depth: z, metre: focal / z };
  }

  /** In the camera's axes; it goes along over the floor. */
  #seen(place) {
    const [x, , z] = this.course[this.#frame];
    const from = [place[0] - x, place[1], place[2] - z];
    const view = this.camera.viewmat();
    return [0, 4, 8].map((row) => view[row] * from[0] + view[row + 1] * from[1] + view[row + 2] * from[2] + view[row + 3]);
  }

  #joint(number, frame = this.#frame) {
    const start = frame * this.size + 3 * number;
    return this.joints.subarray(start, start + 3);
  }

  /** The grid, the way over the clip and a shadow. */
  #drawFloor(pen) {
    const color = getComputedStyle(this.canvas).color;
    const [x, , z] = this.course[this.#frame];
    const [middleX, middleZ] = [x, z].map((value) => SQUARE * Math.round(value / SQUARE));
    const steps = Math.ceil(HORIZON / SQUARE);
    for (let row = -steps; row <= steps; row++) {
      for (let column = -steps; column <= steps; column++) {
        const corner = [middleX + SQUARE * column, 0, middleZ + SQUARE * row];
        pen.globalAlpha = 0.3 * Math.max(0, 1 - Math.hypot(corner[0] - x, corner[2] - z) / HORIZON);
        for (const axis of pen.globalAlpha > 0 ? [0, 2] : []) {
          this.#line(pen, corner, corner.map((value, i) => value + (i === axis ? SQUARE : 0)), 0, color);
        }
      }
    }
    pen.globalAlpha = 0.7;
    for (let i = 1; i < this.way.length; i++) {
      this.#line(pen, onFloor(this.way[i - 1]), onFloor(this.way[i]), 0.015, color);
    }
    pen.globalAlpha = 0.12;
    for (const { from, to, radius } of this.limbs) {
      this.#line(pen, onFloor(this.#joint(from)), onFloor(this.#joint(to)), 2 * radius, "#000");
    }
    pen.globalAlpha = 1;
  }

  #drawTargets(pen, shown, radius) {
    for (const { frame, position } of this.targets) {
      if (shown(frame)) this.#line(pen, position, position, 2 * radius, COLORS.target);
    }
  }

  /** From the farthest to the nearest, so that what is in front covers what is behind. */
  #drawLimbs(pen) {
    const limbs = this.limbs.map(({ from, to, ...look }) => {
      const ends = [this.#joint(from), this.#joint(to)];
      return { ends, depth: this.#seen(ends[0])[2] + this.#seen(ends[1])[2], ...look };
    });
    limbs.sort((a, b) => b.depth - a.depth);
    for (const { ends, radius, color } of limbs) {
      this.#line(pen, ...ends, 2 * (radius + OUTLINE), `color-mix(in srgb, ${color}, #000 25%)`);
      this.#line(pen, ...ends, 2 * radius, color);
    }
  }

  /** A line so many metres wide, with round ends: a dot where both are one place. */
  #line(pen, start, end, width, color) {
    const [from, to] = [this.project(start), this.project(end)];
    if (Math.min(from.depth, to.depth) < NEAREST) return;
    pen.strokeStyle = color;
    pen.lineWidth = Math.max(1, (width * (from.metre + to.metre)) / 2);
    pen.beginPath();
    pen.moveTo(from.x, from.y);
    pen.lineTo(to.x + 0.01, to.y); // browsers do not draw a line without length
    pen.stroke();
  }
}

function limbsOf(names, parents) {
  const limbs = names.flatMap((name, to) => {
    if (parents[to] < 0) return [];
    const [side, part] = name.includes("_") ? name.split("_") : ["trunk", name];
    const color = COLORS[name === "head" ? "head" : TRUNK.includes(part) ? "trunk" : side];
    return [{ from: parents[to], to, radius: RADII[part], color }];
  });
  const head = names.indexOf("head");
  return [...limbs, { from: head, to: head, radius: SKULL, color: COLORS.head }];
}

function averaged(places) {
  return places.map((_, frame) => {
    const near = places.slice(Math.max(0, frame - FOLLOWING), frame + FOLLOWING + 1);
    return [0, 1, 2].map((axis) => near.reduce((sum, place) => sum + place[axis], 0) / near.length);
  });
}

function onFloor([x, , z]) {
  return [x, 0, z];
}
