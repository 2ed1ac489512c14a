// Where a camera stands in a range of views, as a hand moves it.

export class ViewPlace {
  /** @param {GridViews | OrbitViews} views */
  constructor(views) {
    this.views = views;
    this.reset();
  }

  /** To the middle. */
  reset() {
    this.goTo(0, 0);
  }

  /** To a place whose ends are -1 and 1; behind the end of a closed range comes its beginning. */
  goTo(right, up) {
    const within = (value) => Math.min(Math.max(value, -1), 1);
    this.right = this.views.closed ? right - 2 * Math.round(right / 2) : within(right);
    this.up = within(up);
  }

  /** Turns what is seen with the hand, to the right and down, in radians. */
  turn(right, down) {
    const [across, along] = this.views.reach;
    this.goTo(this.right - (2 * right) / across, along > 0 ? this.up + (2 * down) / along : this.up);
  }

  /** What the range's camera is there. */
  camera() {
    return this.views.camera(this.right, this.up);
  }
}
