// Splats on a canvas that mouse, fingers and keys turn.

import { FIELD_OF_VIEW, OrbitCamera } from "./orbit_camera.js";
import { OrbitControls } from "./orbit_controls.js";
import { sceneBall } from "./scene_ball.js";
import { SplatRenderer } from "./splat_renderer.js";

const MOST_PIXELS_A_POINT = 2; // finer screens show no more of what is blurred, for more time
const IDENTITY = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];
const SORTER = new URL("./depth_order_worker.js", import.meta.url);

export class SplatViewer {
  #sorter = null;
  #sorting = false;
  #stale = false; // the camera moved since the order was asked for
  #frame = null;
  #waiting = [];

  /**
   * @param {HTMLCanvasElement} canvas of a size that styles give; its pixels follow that size and the screen's.
   * @param {{background?: number[], up?: number[]}} options red, green and blue in [0, 1]; the scene's direction that
   *   points up in the picture, by default that of 3DGS files, whose y points down.
   * @throws {Error} where there is no WebGL2.
   */
  constructor(canvas, { background = [0, 0, 0], up = [0, -1, 0] } = {}) {
    this.canvas = canvas;
    this.background = background;
    this.up = up;
    this.camera = null;
    this.renderer = new SplatRenderer(canvas);
    new OrbitControls(canvas, () => this.camera, () => this.refresh());
    new ResizeObserver(() => this.#draw()).observe(canvas);
    this.#watchScreen();
    canvas.addEventListener("webglcontextrestored", () => this.refresh());
  }

  /**
   * Shows a scene, whole; resolves when it is drawn.
   * @param {Gaussians} gaussians as `decodeSplats` gives them.
   * @param {{center: number[], distance: number, elevation: number}|null} circle from where the scene is best looked
   *   at, in its units and degrees; all of it is seen where there is none.
   * @throws {Error} when there are none, or more than the device holds.
   */
  async show(gaussians, circle = null) {
    if (gaussians.count === 0) throw new Error("The scene is empty: it holds no Gaussian.");
    this.renderer.setSplats(gaussians);
    const aspect = this.canvas.clientWidth / this.canvas.clientHeight;
    this.camera = new OrbitCamera(circle ?? sceneBall(gaussians), this.up, aspect);
    this.#sorter?.terminate();
    this.#sorter = new Worker(SORTER, { type: "module" });
    this.#sorter.onmessage = ({ data }) => this.#take(data);
    this.#sorter.onerror = ({ message }) => this.#fail(message ?? "its worker could not be started");
    this.#ask({ means: gaussians.means });
    await this.settled();
  }

  /** Draws anew, to be called when the camera or the background was changed. */
  refresh() {
    if (this.#sorter === null) return this.#draw();
    if (this.#sorting) this.#stale = true;
    else this.#ask({});
    this.#schedule();
  }

  /** Resolves when the splats are drawn in the order that the camera sees. */
  settled() {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#schedule();
    });
  }

  /** Draws anew whenever the page gets to another screen, or is zoomed. */
  #watchScreen() {
    const resolution = matchMedia(`(resolution: ${window.devicePixelRatio}dppx)`);
    const changed = () => {
      this.#draw();
      this.#watchScreen();
    };
    resolution.addEventListener("change", changed, { once: true });
  }

  #schedule() {
    this.#frame ??= requestAnimationFrame(() => this.#draw());
  }

  #ask(message) {
    this.#sorting = true;
    this.#stale = false;
    this.#sorter.postMessage({ ...message, viewmat: this.camera.viewmat() });
  }

  #take(order) {
    this.#sorting = false;
    this.renderer.setOrder(order);
    if (this.#stale) this.#ask({});
    this.#schedule();
  }

  #fail(message) {
    this.#waiting.splice(0).forEach(({ reject }) => reject(new Error(`The splats cannot be sorted: ${message}.`)));
  }

  #draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = null;
    const ratio = Math.min(window.devicePixelRatio, MOST_PIXELS_A_POINT);
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight].map((side) => Math.round(side * ratio));
    if (width < 1 || height < 1) return; // not laid out
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const viewmat = this.camera?.viewmat() ?? IDENTITY;
    this.renderer.draw(viewmat, FIELD_OF_VIEW, this.background);
    if (!this.#sorting) this.#waiting.splice(0).forEach(({ resolve }) => resolve());
  }
}
