// Numbers rounded as Python rounds them.

/** The nearest whole number, of two that are as near the even one. */
export function roundToEven(value) {
  const down = Math.floor(value);
  const rest = value - down;
  return rest > 0.5 || (rest === 0.5 && down % 2 !== 0) ? down + 1 : down;
}
