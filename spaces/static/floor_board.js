// A floor seen from above, in metres, to draw a path on: a person starts at the mark and looks up the page, along +z;
// +x is to the left.

const SIDE = 8; // metres that are seen
const BEHIND = 2; // of them, behind the start
const PIXELS = 720; // of the canvas, each way
const LETTERS = 13; // pixels of the page
const STEP = 0.1; // metres between points that are kept
const INK = "#0d9488"; // is seen on light and dark pages

export class FloorBoard {
  /**
   * @param {HTMLElement} place where the canvas goes.
   * @param {(points: number[][]) => void} drawn called with the points [x, z] of each path that was drawn.
   */
  constructor(place, drawn) {
    this.points = [];
    this.drawn = drawn;
    this.canvas = Object.assign(document.createElement("canvas"), { width: PIXELS, height: PIXELS });
    this.canvas.className = "floor";
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", "Floor to draw a path on");
    this.canvas.style.cssText =
      "display: block; width: 100%; aspect-ratio: 1; touch-action: none; cursor: crosshair; border-radius: 8px";
    place.append(this.canvas);
    this.canvas.addEventListener("pointerdown", (event) => this.#press(event));
    this.canvas.addEventListener("pointermove", (event) => this.#drag(event));
    this.canvas.addEventListener("pointerup", () => this.#release());
    this.canvas.addEventListener("pointercancel", () => this.#release());
    new ResizeObserver(() => this.paint()).observe(this.canvas);
    this.paint();
  }

  /** Shows a path in place of the one that is there. */
  show(points) {
    this.points = points ?? [];
    this.paint();
  }

  paint() {
    const pen = this.canvas.getContext("2d");
    pen.clearRect(0, 0, PIXELS, PIXELS);
    pen.strokeStyle = pen.fillStyle = getComputedStyle(this.canvas).color;
    pen.lineWidth = 1;
    for (let line = -SIDE; line <= SIDE; line += 0.5) {
      pen.globalAlpha = Number.isInteger(line) ? 0.3 : 0.1;
      strokeLine(pen, [[line, -SIDE], [line, SIDE]].map(pixel));
      strokeLine(pen, [[-SIDE, line], [SIDE, line]].map(pixel));
    }
    pen.globalAlpha = 0.75;
    pen.font = `${(LETTERS * PIXELS) / (this.canvas.clientWidth || PIXELS)}px system-ui, sans-serif`;
    for (let metres = 1 - BEHIND; metres < SIDE - BEHIND; metres += 1) {
      pen.fillText(`${metres} m`, 10, pixel([0, metres])[1] - 6);
    }
    pen.globalAlpha = 1;
    if (this.points.length > 0) this.#paintPath(pen);
    const [x, y] = pixel([0, 0]);
    tracePath(pen, [[x, y + 14], [x - 18, y + 24], [x, y - 26], [x + 18, y + 24]]);
    pen.fill();
  }

  #paintPath(pen) {
    pen.save();
    pen.strokeStyle = pen.fillStyle = INK;
    pen.lineWidth = 8;
    pen.lineCap = pen.lineJoin = "round";
    strokeLine(pen, [[0, 0], ...this.points].map(pixel));
    pen.beginPath();
    pen.arc(...pixel(this.points.at(-1)), 14, 0, 2 * Math.PI);
    pen.fill();
    pen.restore();
  }

  #press(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pressed = true;
    this.show([this.#metres(event)]);
  }

  #drag(event) {
    if (!this.pressed) return;
    const point = this.#metres(event);
    const last = this.points.at(-1);
    if (Math.hypot(point[0] - last[0], point[1] - last[1]) >= STEP) this.show([...this.points, point]);
  }

  #release() {
    if (!this.pressed) return;
    this.pressed = false;
    this.drawn(this.points);
  }

  /** Where a pointer is on the floor, to the centimetre. */
  #metres({ clientX, clientY }) {
    const frame = this.canvas.getBoundingClientRect();
    const [right, down] = [(clientX - frame.left) / frame.width, (clientY - frame.top) / frame.height];
    return [SIDE * (0.5 - right), SIDE * (1 - down) - BEHIND].map((metres) => Math.round(100 * metres) / 100);
  }
}

function pixel([x, z]) {
  return [(0.5 - x / SIDE) * PIXELS, (1 - (z + BEHIND) / SIDE) * PIXELS];
}

function strokeLine(pen, points) {
  tracePath(pen, points);
  pen.stroke();
}

function tracePath(pen, points) {
  pen.beginPath();
  for (const point of points) pen.lineTo(...point);
}
