// Mouse, fingers, wheel and keys that move an orbit camera, or only turn it.
// | | turn | move | nearer, farther | first view |
// |---|---|---|---|---|
// | mouse | drag | drag with the right button or with Shift | wheel | double click |
// | fingers | one | two | two, spread or pinched | |
// | keys | arrows | Shift and arrows | + and - | Home or 0 |

const RADIANS_A_HEIGHT = 3; // of turning, for a drag as long as the picture is high
const ZOOM_A_PIXEL = 0.0015; // of the wheel, in logarithms
const PIXELS_A_LINE = 32; // where a wheel counts lines
const KEY_STEP = 0.04; // heights of the picture that a key drags
const KEY_ZOOM = 1.1;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const ZOOMS = { "+": 1 / KEY_ZOOM, "=": 1 / KEY_ZOOM, "-": KEY_ZOOM };

export class OrbitControls {
  #pointers = new Map();

  /**
   * @param {HTMLCanvasElement} canvas what listens; it takes the focus and no longer scrolls the page.
   * @param {() => ?OrbitCamera} camera the one to move, or null while there is none.
   * @param {() => void} changed called after each change.
   * @param {{travels?: boolean}} options whether the camera has `zoom` and `pan` beside `turn` and `reset`; without
   *   them two fingers turn too, and the wheel scrolls the page.
   */
  constructor(canvas, camera, changed, { travels = true } = {}) {
    this.canvas = canvas;
    this.camera = camera;
    this.changed = changed;
    this.travels = travels;
    canvas.tabIndex = 0;
    canvas.style.touchAction = "none";
    canvas.addEventListener("pointerdown", (event) => this.#press(event));
    canvas.addEventListener("pointermove", (event) => this.#drag(event));
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, ({ pointerId }) => this.#pointers.delete(pointerId));
    }
    if (travels) canvas.addEventListener("wheel", (event) => this.#roll(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.#type(event));
    canvas.addEventListener("dblclick", () => this.#move((camera) => camera.reset()));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  #move(how) {
    const camera = this.camera();
    if (camera === null) return;
    how(camera);
    this.changed();
  }

  #press({ pointerId, clientX, clientY }) {
    this.canvas.setPointerCapture(pointerId);
    this.#pointers.set(pointerId, [clientX, clientY]);
  }

  #drag({ pointerId, clientX, clientY, buttons, shiftKey }) {
    const before = [...this.#pointers.values()];
    if (!this.#pointers.has(pointerId)) return;
    this.#pointers.set(pointerId, [clientX, clientY]);
    const after = [...this.#pointers.values()];
    const [fromX, fromY] = middle(before);
    const [toX, toY] = middle(after);
    const height = this.canvas.clientHeight;
    const [right, down] = [(toX - fromX) / height, (toY - fromY) / height];
    this.#move((camera) => {
      if (this.travels && after.length > 1) camera.zoom(gap(before) / gap(after));
      if (this.travels && (after.length > 1 || shiftKey || buttons & 2)) camera.pan(right, down);
      else camera.turn(RADIANS_A_HEIGHT * right, RADIANS_A_HEIGHT * down);
    });
  }

  #roll(event) {
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? 1 : PIXELS_A_LINE);
    this.#move((camera) => camera.zoom(Math.exp(ZOOM_A_PIXEL * pixels)));
  }

  #type(event) {
    const { key, shiftKey, ctrlKey, altKey, metaKey } = event;
    if (ctrlKey || altKey || metaKey) return;
    if (key in ARROWS) {
      const [right, down] = ARROWS[key].map((direction) => direction * KEY_STEP);
      if (this.travels && shiftKey) this.#move((camera) => camera.pan(right, down));
      else this.#move((camera) => camera.turn(RADIANS_A_HEIGHT * right, RADIANS_A_HEIGHT * down));
    } else if (this.travels && key in ZOOMS) this.#move((camera) => camera.zoom(ZOOMS[key]));
    else if (key === "Home" || key === "0") this.#move((camera) => camera.reset());
    else return;
    event.preventDefault();
  }
}

function middle(points) {
  return [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);
}

function gap([[x, y], [otherX, otherY]]) {
  return Math.max(1, Math.hypot(x - otherX, y - otherY));
}
