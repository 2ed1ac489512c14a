// A moving person with a button that plays and pauses, and a slider of the frames.

import { MotionPlayer } from "./motion_player.js";

export class MotionStage {
  /**
   * @param {HTMLElement} place where canvas and controls go; it shows once there is a motion.
   * @param {object} skeleton as `MotionPlayer` takes it.
   */
  constructor(place, skeleton) {
    const canvas = document.createElement("canvas");
    canvas.className = "figure";
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", "The person as it moves; drag to look from another side");
    canvas.style.cssText = "display: block; width: 100%; aspect-ratio: 4 / 3; cursor: grab";
    this.place = place;
    this.player = new MotionPlayer(canvas, skeleton, () => this.#tell());
    this.button = Object.assign(document.createElement("button"), { type: "button", onclick: () => this.#toggle() });
    this.button.style.cssText = "width: 5em; padding: 6px 0; font: inherit; color: inherit; background: none; cursor: pointer";
    this.slider = Object.assign(document.createElement("input"), { type: "range", min: 0, step: 1 });
    this.slider.setAttribute("aria-label", "Frame");
    this.slider.style.cssText = "flex: 1; min-width: 0; accent-color: #0f766e";
    this.slider.oninput = () => this.#seek();
    this.time = document.createElement("span");
    this.time.style.cssText = "font-variant-numeric: tabular-nums";
    const row = document.createElement("div");
    row.style.cssText = "display: flex; gap: 12px; align-items: center; padding: 6px 12px 10px";
    row.append(this.button, this.slider, this.time);
    place.append(canvas, row);
    place.hidden = true;
  }

  /**
   * Plays a motion from its start.
   * @param {?Float32Array} joints as `MotionPlayer.show` takes them; null hides the stage.
   * @param {{frame: number, position: number[]}[]} targets likewise.
   */
  show(joints, targets = []) {
    this.place.hidden = joints === null;
    if (joints === null) return this.player.pause();
    this.slider.max = joints.length / this.player.size - 1;
    this.player.show(joints, targets);
  }

  #toggle() {
    if (this.player.playing) this.player.pause();
    else this.player.play();
  }

  #seek() {
    this.player.pause();
    this.player.seek(this.slider.valueAsNumber);
  }

  #tell() {
    const { playing, frame, framesPerSecond } = this.player;
    this.button.textContent = playing ? "Pause" : "Play";
    this.slider.value = frame;
    this.time.textContent = `${(frame / framesPerSecond).toFixed(1)} s`;
  }
}
