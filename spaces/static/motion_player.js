// A moving skeleton on a canvas: metres, Y up, a grid for the floor; dragging turns it, see OrbitControls.

import { FIELD_OF_VIEW, OrbitCamera } from "./orbit_camera.js";
import { OrbitControls } from "./orbit_controls.js";

const UP = [0, 1, 0];
const VIEW = { center: [0, 0.9, 0], distance: 4.5, elevation: 12 };
const GRID = 4; // squares of a metre to each side of the figure
const NEAREST = 0.05; // metres before the camera, where nothing is drawn
const BONE = 0.035; // metres across
const HEAD = 0.11;
const COLORS = { left: "#2a8ca8", right: "#db7d38", middle: "#64748b", grid: "#94a3b855", target: "#d62728" };

export class MotionPlayer {
  #frame = 0;
  #last = null;
  #asked = null;

  /**
   * @param {HTMLCanvasElement} canvas drawn at the size that the page gives it.
   * @param {{names: string[], parents: number[], framesPerSecond: number}} skeleton joints with the number of the one
   *   above each, -1 for the first.
   * @param {(frame: number) => void} onFrame called after each frame that is drawn.
   */
  constructor(canvas, { names, parents, framesPerSecond }, onFrame = () => {}) {
    Object.assign(this, { canvas, names, parents, framesPerSecond, onFrame, playing: false });
    this.joints = null;
    this.targets = [];
    this.camera = new OrbitCamera(VIEW, UP, 1);
    this.controls = new OrbitControls(canvas, () => (this.joints === null ? null : this.camera), () => this.draw());
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  get frames() {
    return this.joints === null ? 0 : this.joints.length / (3 * this.parents.length);
  }

  get frame() {
    return this.#frame;
  }

  /**
   * Shows a motion from its first frame on, and plays it over and over.
   * @param {Float32Array} joints [frames, joints, 3].
   * @param {{frame: number, position: number[]}[]} targets that joints were to reach; those of the frame are larger.
   * @throws {Error} when the numbers are of no whole frames.
   */
  show(joints, targets = []) {
    const size = 3 * this.parents.length;
    if (joints.length === 0 || joints.length % size) {
      throw new Error(`joints must be frames of ${size} numbers, not ${joints.length} numbers.`);
    }
    Object.assign(this, { joints, targets });
    this.seek(0);
    this.play();
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
  }

  pause() {
    this.playing = false;
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
    pen.lineCap = "round";
    this.#drawGrid(pen);
    this.#drawTargets(pen);
    this.#drawBones(pen);
    this.onFrame(this.#frame);
  }

  /** Where a place of the world is on the canvas: x and y in its pixels, and how many of them are a metre there. */
  project(place) {
    const { canvas } = this;
    const [x, y, z] = this.#seen(place);
    const focal = canvas.height / (2 * Math.tan((FIELD_OF_VIEW * Math.PI) / 360));
    return { x: canvas.width / 2 + (focal * x) / z, y: canvas.height / 2 + (focal * y) / z, depth: z, metre: focal / z };
  }

  /** In the camera's axes; it goes along with the first joint over the floor. */
  #seen(place) {
    const [x, , z] = this.#joint(0);
    const from = [place[0] - x, place[1], place[2] - z];
    const view = this.camera.viewmat();
    return [0, 4, 8].map((row) => view[row] * from[0] + view[row + 1] * from[1] + view[row + 2] * from[2] + view[row + 3]);
  }

  #joint(number) {
    const start = 3 * (this.#frame * this.parents.length + number);
    return this.joints.subarray(start, start + 3);
  }

  #drawGrid(pen) {
    const [x, , z] = this.#joint(0).map(Math.round);
    for (let line = -GRID; line <= GRID; line++) {
      for (let square = -GRID; square < GRID; square++) {
        this.#line(pen, [x + line, 0, z + square], [x + line, 0, z + square + 1], 0.01, COLORS.grid);
        this.#line(pen, [x + square, 0, z + line], [x + square + 1, 0, z + line], 0.01, COLORS.grid);
      }
    }
  }

  #drawTargets(pen) {
    for (const { frame, position } of this.targets) {
      this.#dot(pen, position, frame === this.#frame ? 0.06 : 0.025, COLORS.target);
    }
  }

  /** From the farthest to the nearest, so that what is in front covers what is behind. */
  #drawBones(pen) {
    const bones = this.parents.flatMap((parent, joint) => {
      if (parent < 0) return [];
      const ends = [this.#joint(parent), this.#joint(joint)];
      return [{ joint, ends, depth: this.#seen(ends[0])[2] + this.#seen(ends[1])[2] }];
    });
    bones.sort((a, b) => b.depth - a.depth);
    for (const { joint, ends } of bones) {
      const side = ["left", "right"].find((word) => this.names[joint].startsWith(word)) ?? "middle";
      this.#line(pen, ...ends, BONE, COLORS[side]);
      if (this.names[joint] === "head") this.#dot(pen, ends[1], HEAD, COLORS.middle);
    }
  }

  #line(pen, start, end, width, color) {
    const [from, to] = [this.project(start), this.project(end)];
    if (Math.min(from.depth, to.depth) < NEAREST) return;
    pen.strokeStyle = color;
    pen.lineWidth = Math.max(1, width * Math.min(from.metre, to.metre));
    pen.beginPath();
    pen.moveTo(from.x, from.y);
    pen.lineTo(to.x, to.y);
    pen.stroke();
  }

  #dot(pen, place, radius, color) {
    const { x, y, depth, metre } = this.project(place);
    if (depth < NEAREST) return;
    pen.fillStyle = color;
    pen.beginPath();
    pen.arc(x, y, radius * metre, 0, 2 * Math.PI);
    pen.fill();
  }
}
