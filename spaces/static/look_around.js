// Mouse, fingers and keys on a picture that look around in a light field.

import { OrbitControls } from "./orbit_controls.js";
import { ViewPlace } from "./view_place.js";
import { viewsOf } from "./view_ranges.js";

/**
 * @param {HTMLElement} picture what listens.
 * @param {object} stored from where the field may be looked at, as Python's `ViewRange.to_config` gives it.
 * @param {() => void} changed called after each move of the place.
 * @returns {ViewPlace} the place, in the middle at first.
 */
export function lookAround(picture, stored, changed) {
  const place = new ViewPlace(viewsOf(stored));
  new OrbitControls(picture, () => place, changed, { travels: false });
  return place;
}
