// A clip of a person that plays: limbs around the bones, over a grid of half metres, with targets as red dots.

const FRAMES_PER_SECOND = 20;
const [WIDTH, HEIGHT] = [960, 720]; // pixels of the canvas
const [DISTANCE, FOCAL, AIM] = [4.2, 1.5, 0.85]; // metres to the figure, heights of the canvas, metres above the floor
const HORIZON = 5; // metres to which the floor is drawn
const FOLLOWING = 10; // frames before and after, over which the camera's way is smoothed
const RADIANS_A_WIDTH = 5; // of turning, for a drag as wide as the canvas
const [LOWEST, HIGHEST] = [0.03, 1.5]; // radians of the camera above the horizon
const [TORSO, HEAD, LEFT, RIGHT] = ["#5c6b80", "#deb899", "#298ca8", "#db7d38"];
const DOT = "#d62728";
const LIMBS = [ // from joint to joint, radius in metres, colour
  [0, 3, 0.11, TORSO], [3, 6, 0.11, TORSO], [6, 9, 0.115, TORSO], [9, 12, 0.07, TORSO], [12, 15, 0.055, HEAD],
  [15, 15, 0.1, HEAD], [0, 1, 0.1, TORSO], [0, 2, 0.1, TORSO], [9, 13, 0.08, TORSO], [9, 14, 0.08, TORSO],
  [13, 16, 0.065, TORSO], [14, 17, 0.065, TORSO], [1, 4, 0.07, LEFT], [4, 7, 0.047, LEFT], [7, 10, 0.037, LEFT],
  [16, 18, 0.047, LEFT], [18, 20, 0.037, LEFT], [2, 5, 0.07, RIGHT], [5, 8, 0.047, RIGHT], [8, 11, 0.037, RIGHT],
  [17, 19, 0.047, RIGHT], [19, 21, 0.037, RIGHT],
]; // prettier-ignore

export class FigurePlayer {
  /** @param {HTMLElement} place where canvas and controls go; they show once there is a motion. */
  constructor(place) {
    this.canvas = Object.assign(document.createElement("canvas"), { width: WIDTH, height: HEIGHT });
    this.canvas.className = "figure";
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", "The figure as it moves; drag to look from another side");
    this.canvas.style.cssText = "display: block; width: 100%; aspect-ratio: 4 / 3; touch-action: pan-y; cursor: grab";
    this.button = Object.assign(document.createElement("button"), { type: "button", onclick: () => this.toggle() });
    this.button.style.cssText = "width: 5em; font: inherit; color: inherit; background: none; cursor: pointer";
    this.slider = Object.assign(document.createElement("input"), { type: "range", min: 0, step: 1 });
    this.slider.setAttribute("aria-label", "Frame");
    this.slider.style.cssText = "flex: 1; min-width: 0";
    this.slider.oninput = () => {
      this.toggle(false);
      this.frame = this.slider.valueAsNumber;
      this.paint();
    };
    const row = document.createElement("div");
    row.style.cssText = "display: flex; gap: 10px; align-items: center; padding: 6px";
    row.append(this.button, this.slider);
    this.place = place;
    place.append(this.canvas, row);
    place.hidden = true;
    this.canvas.addEventListener("pointerdown", ({ pointerId }) => this.canvas.setPointerCapture(pointerId));
    this.canvas.addEventListener("pointermove", (event) => this.#turn(event));
    [this.azimuth, this.elevation] = [0.6, 0.22];
  }

  /**
   * Plays a motion from its start.
   * @param {?{millimetres: number[][], targets: number[][]}} motion x, y and z of the 22 joints, a row a frame; and
   *   targets as rows of frame, x, y and z. Null shows none.
   */
  show(motion) {
    this.motion = motion;
    this.place.hidden = !motion;
    if (!motion) return;
    this.frames = motion.millimetres.map((row) => row.flatMap((_, i) => (i % 3 === 0 ? [point(row, i)] : [])));
    this.targets = motion.targets.map((row) => ({ frame: row[0], at: point(row, 1) }));
    this.course = smoothed(this.frames.map(([pelvis]) => pelvis));
    this.slider.max = this.frames.length - 1;
    this.frame = 0;
    this.paint();
    this.toggle(!matchMedia("(prefers-reduced-motion: reduce)").matches);
  }

  /** Plays or pauses. */
  toggle(playing = !this.playing) {
    this.playing = playing;
    this.button.textContent = playing ? "Pause" : "Play";
    if (!playing) return;
    const [start, first] = [performance.now(), this.frame];
    const tick = (now) => {
      if (!this.playing || this.started !== start || !this.canvas.isConnected) return;
      this.frame = Math.floor(first + (Math.max(0, now - start) / 1000) * FRAMES_PER_SECOND) % this.frames.length;
      this.paint();
      requestAnimationFrame(tick);
    };
    this.started = start;
    requestAnimationFrame(tick);
  }

  paint() {
    this.slider.value = this.frame;
    const pen = this.canvas.getContext("2d");
    pen.clearRect(0, 0, WIDTH, HEIGHT);
    pen.lineCap = pen.lineJoin = "round";
    const [camera, joints] = [this.#camera(), this.frames[this.frame]];
    this.#paintFloor(pen, camera);
    for (const [from, to, radius] of LIMBS) {
      strokeLimb(pen, camera, onFloor(joints[from]), onFloor(joints[to]), radius, "rgb(128 128 128 / 12%)");
    }
    const parts = LIMBS.map(([from, to, radius, color]) => ({ ends: [joints[from], joints[to]], radius, color }));
    for (const { frame, at } of this.targets) {
      parts.push({ ends: [at, at], radius: frame === this.frame ? 0.035 : 0.012, color: DOT });
    }
    const depth = ({ ends }) => camera(ends[0])[2] + camera(ends[1])[2];
    parts.sort((one, other) => depth(other) - depth(one));
    for (const { ends, radius, color } of parts) strokeLimb(pen, camera, ...ends, radius, color);
  }

  #paintFloor(pen, camera) {
    const [x, , z] = this.course[this.frame];
    pen.strokeStyle = getComputedStyle(this.canvas).color;
    pen.lineWidth = 1;
    const line = (ends) => {
      pen.globalAlpha = 0.16;
      strokeLine(pen, camera, ends);
    };
    for (let step = -2 * HORIZON; step <= 2 * HORIZON; step += 1) {
      const reach = Math.sqrt(HORIZON ** 2 - (step / 2) ** 2); // the grid ends at a circle
      const [ownX, ownZ] = [Math.round(2 * x) / 2 + step / 2, Math.round(2 * z) / 2 + step / 2];
      line([[ownX, 0, z - reach], [ownX, 0, z + reach]]);
      line([[x - reach, 0, ownZ], [x + reach, 0, ownZ]]);
    }
    pen.globalAlpha = 0.6;
    pen.lineWidth = 3;
    strokeLine(pen, camera, this.frames.map(([pelvis]) => onFloor(pelvis)));
    pen.globalAlpha = 1;
  }

  /** A function from places in the world to pixels right and down, metres away, and pixels a metre there. */
  #camera() {
    const [sine, cosine] = [Math.sin(this.azimuth), Math.cos(this.azimuth)];
    const [up, flat] = [Math.sin(this.elevation), Math.cos(this.elevation)];
    const [x, , z] = this.course[this.frame];
    return (place) => {
      const [east, high, south] = [place[0] - x, place[1] - AIM, place[2] - z];
      const toward = sine * east + cosine * south; // how far on the camera's side
      const away = Math.max(0.1, DISTANCE - flat * toward - up * high);
      const scale = (FOCAL * HEIGHT) / away;
      const right = cosine * east - sine * south;
      return [WIDTH / 2 + scale * right, HEIGHT / 2 - scale * (flat * high - up * toward), away, scale];
    };
  }

  #turn({ buttons, movementX, movementY }) {
    if (buttons !== 1 || !this.motion) return;
    const turned = RADIANS_A_WIDTH / this.canvas.clientWidth;
    this.azimuth -= turned * movementX;
    this.elevation = Math.min(HIGHEST, Math.max(LOWEST, this.elevation + turned * movementY));
    this.paint();
  }
}

function point(row, start) {
  return row.slice(start, start + 3).map((millimetres) => millimetres / 1000);
}

function onFloor([x, , z]) {
  return [x, 0, z];
}

function smoothed(places) {
  return places.map((_, frame) => {
    const near = places.slice(Math.max(0, frame - FOLLOWING), frame + FOLLOWING + 1);
    return [0, 1, 2].map((axis) => near.reduce((sum, place) => sum + place[axis], 0) / near.length);
  });
}

function strokeLine(pen, camera, places) {
  pen.beginPath();
  for (const place of places) pen.lineTo(...camera(place).slice(0, 2));
  pen.stroke();
}

function strokeLimb(pen, camera, from, to, radius, color) {
  const [[x, y, , scale], [endX, endY, , endScale]] = [camera(from), camera(to)];
  pen.strokeStyle = color;
  pen.lineWidth = radius * (scale + endScale);
  pen.beginPath();
  pen.moveTo(x, y);
  pen.lineTo(endX + 0.01, endY); // a line without length would not be drawn
  pen.stroke();
}
