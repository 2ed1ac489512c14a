// Places that joints must be at, at single frames, and how far a motion is from them; metres, Y up.

export class JointTargets {
  /**
   * @param {{frame: number, joint: number, position: number[]}[]} targets at least one.
   * @param {number} jointCount joints of a frame.
   */
  constructor(targets, jointCount) {
    this.targets = targets;
    this.jointCount = jointCount;
  }

  /**
   * What ControlMM's control branch reads of a motion: for each of its joints target - joint, then for each the target;
   * x, y and z each, 0 where there is no target.
   * @param {Float32Array} joints [frames, joints, 3].
   * @param {number[]} controlJoints numbers of the joints that it knows.
   * @returns {Float32Array} [frames, 6 * control joints].
   */
  control(joints, controlJoints) {
    const channels = 6 * controlJoints.length;
    const control = new Float32Array((joints.length / (3 * this.jointCount)) * channels);
    for (const target of this.targets) {
      const place = controlJoints.indexOf(target.joint);
      if (place < 0) continue;
      const way = target.frame * channels + 3 * place;
      control.set(target.position.map((wanted, axis) => Math.fround(wanted) - joints[this.#at(target) + axis]), way);
      control.set(target.position, way + channels / 2);
    }
    return control;
  }

  /**
   * The gradient, by each joint's place, of the mean squared error over x, y and z of all targets.
   * @param {Float32Array} joints [frames, joints, 3].
   * @returns {Float32Array} likewise.
   */
  gradient(joints) {
    const gradient = new Float32Array(joints.length);
    for (const target of this.targets) {
      for (const [axis, wanted] of target.position.entries()) {
        const i = this.#at(target) + axis;
        gradient[i] = (2 * (joints[i] - Math.fround(wanted))) / (3 * this.targets.length);
      }
    }
    return gradient;
  }

  /** Metres from each target to its joint. */
  misses(joints) {
    return this.targets.map((target) =>
      Math.hypot(...target.position.map((wanted, axis) => wanted - joints[this.#at(target) + axis])),
    );
  }

  #at({ frame, joint }) {
    return 3 * (frame * this.jointCount + joint);
  }
}
