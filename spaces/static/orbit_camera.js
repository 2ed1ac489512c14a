// A camera on a sphere around what it looks at. World axes are the scene's; the camera's are OpenCV's: x right, y down.

export const FIELD_OF_VIEW = 40; // degrees, vertical
const ELEVATION = 15; // degrees, of the first view, as `pocket render` has it
const STEEPEST = (89 * Math.PI) / 180;
const MARGIN = 1.15; // of a picture around the scene
const NEAREST = 0.02; // of the scene's radius
const FARTHEST = 50;

export class OrbitCamera {
  /**
   * @param {{center: number[], radius: number}} ball around the scene, as `sceneBall` gives it; or a circle,
   *   {center: number[], distance: number, elevation: number, azimuth?: number}, on which the first view stands, in
   *   degrees.
   * @param {number[]} up the scene's direction that points up in the picture, of length 1.
   * @param {number} aspect width of the picture by its height; the first view holds all of the ball.
   */
  constructor({ center, radius = null, distance = null, elevation = ELEVATION, azimuth = 0 }, up, aspect) {
    this.radius = radius ?? (distance * Math.sin((FIELD_OF_VIEW * Math.PI) / 360)) / MARGIN;
    this.up = up;
    this.start = { center, aspect, distance, elevation, azimuth };
    this.reset();
  }

  /** Back to the first view. */
  reset() {
    const halfAngle = Math.atan(Math.min(1, this.start.aspect) * Math.tan((FIELD_OF_VIEW * Math.PI) / 360));
    this.center = this.start.center;
    this.distance = this.start.distance ?? (MARGIN * this.radius) / Math.sin(halfAngle);
    this.azimuth = (this.start.azimuth * Math.PI) / 180;
    this.elevation = (this.start.elevation * Math.PI) / 180;
  }

  /** Turns the scene with the hand: to the right and down, in radians. */
  turn(right, down) {
    this.azimuth -= right;
    this.elevation = Math.min(Math.max(this.elevation + down, -STEEPEST), STEEPEST);
  }

  /** Goes `factor` times as far away. */
  zoom(factor) {
    this.distance = Math.min(Math.max(this.distance * factor, NEAREST * this.radius), FARTHEST * this.radius);
  }

  /** Moves the scene with the hand: to the right and down, in heights of the picture. */
  pan(right, down) {
    const height = 2 * this.distance * Math.tan((FIELD_OF_VIEW * Math.PI) / 360);
    const [x, y] = this.#axes();
    this.center = this.center.map((value, i) => value - height * (right * x[i] + down * y[i]));
  }

  /** World to camera, row after row [16]. */
  viewmat() {
    const axes = this.#axes();
    const eye = this.center.map((value, i) => value - this.distance * axes[2][i]);
    return [...axes.flatMap((axis) => [...axis, -dot(axis, eye)]), 0, 0, 0, 1];
  }

  /** The camera's x, y and z axes in the world's. */
  #axes() {
    const first = unit(cross(this.up, aside(this.up)));
    const second = cross(this.up, first);
    const flat = Math.cos(this.elevation);
    const outward = this.up.map(
      (up, i) =>
        flat * (Math.cos(this.azimuth) * first[i] + Math.sin(this.azimuth) * second[i]) + Math.sin(this.elevation) * up,
    );
    const forward = outward.map((value) => -value);
    const right = unit(cross(forward, this.up));
    return [right, cross(forward, right), forward];
  }
}

/** The axis that a direction has least of. */
function aside(direction) {
  const least = direction.reduce((best, value, i) => (Math.abs(value) < Math.abs(direction[best]) ? i : best), 0);
  return direction.map((_, i) => Number(i === least));
}

function cross(a, b) {
  return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
}

function dot(a, b) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

function unit(vector) {
  const length = Math.hypot(...vector);
  return vector.map((value) => value / length);
}
