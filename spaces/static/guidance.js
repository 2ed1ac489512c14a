// Classifier-free guidance (arXiv 2207.12598).

/** Away from what is predicted without a prompt, or for a negative one, by `scale`; in float32, as Python has it. */
export function guide(negative, positive, scale) {
  return negative.map((value, i) => value + Math.fround(scale * Math.fround(positive[i] - value)));
}
