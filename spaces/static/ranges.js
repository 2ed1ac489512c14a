// Numbers that a user types, within their bounds.

/** @throws {Error} with one sentence for a number that is none, out of its range, or not whole where it must be. */
export function checkRange(name, value, low, high, whole) {
  if ((whole ? Number.isInteger(value) : Number.isFinite(value)) && value >= low && value <= high) return;
  const kind = whole ? "a whole number" : "a number";
  throw new Error(`${name} must be ${kind} from ${low} to ${high}, not ${Number.isNaN(value) ? "nothing" : value}.`);
}
