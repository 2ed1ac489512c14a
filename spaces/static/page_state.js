// What a page says of its work: in words, with a bar, and that something went wrong.

export const at = (id) => document.getElementById(id);

/** Says what is done, with how much of it in [0, 1], or what went wrong. */
export function tell(words, { fraction = null, wrong = false } = {}) {
  at("state").className = `state${wrong ? " wrong" : fraction === null ? " still" : ""}`;
  at("words").textContent = words;
  at("bar").value = fraction ?? 0;
}

/**
 * Does what a button starts, once at a time.
 * @param {HTMLButtonElement} button
 * @param {string} doing what is said meanwhile.
 * @param {(progress: (fraction: number, words: string) => void) => Promise<string>} job whose result is said then.
 */
export async function work(button, doing, job) {
  if (button.disabled) return;
  button.disabled = true;
  at("state").scrollIntoView({ block: "nearest", behavior: "smooth" });
  try {
    tell(doing, { fraction: 0 });
    tell(await job((fraction, words) => tell(`${doing}: ${words}`, { fraction })));
  } catch (error) {
    tell(error.message, { wrong: true });
  } finally {
    button.disabled = false;
  }
}

/** Seconds since a `performance.now()`, as words. */
export function secondsSince(start) {
  return ((performance.now() - start) / 1000).toFixed(1);
}

/** Starts what a form is for when it is sent, and when Enter is pressed in its prompt. */
export function onAsked(form, prompt, start) {
  form.onsubmit = (event) => {
    event.preventDefault();
    start();
  };
  prompt.onkeydown = (event) => {
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      start();
    }
  };
}

/**
 * Loads the model and says how far it is.
 * @param {Background} model
 * @param {() => Promise<string>} prepare what the page does then; gives the words that say it is ready.
 */
export async function openModel(model, prepare) {
  try {
    await model.load((fraction, words) => tell(`Loading the model: ${words}`, { fraction }));
    tell(await prepare());
  } catch (error) {
    tell(`The model could not be loaded: ${error.message}`, { wrong: true });
  }
}

/** What the bundle of the page says of itself. */
export async function readContract() {
  return (await fetch("./model/contract.json")).json();
}
