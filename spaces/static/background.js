// A model in a worker, so that the page never freezes: `serve` runs there, `Background` is what the page talks to.

/**
 * Answers the page. To be called in a worker.
 * @param {{load: Function}} Method with `static async load(progress)`, whose result has `async generate(request,
 *   progress)`; `progress` takes a fraction in [0, 1] and a few words.
 */
export function serve(Method) {
  let model = null;
  self.onmessage = async ({ data: { id, action, request } }) => {
    const progress = (fraction, words) => self.postMessage({ id, fraction, words });
    try {
      let result;
      if (action === "load") model = await Method.load(progress);
      else result = await model.generate(request, progress);
      self.postMessage({ id, result });
    } catch (error) {
      self.postMessage({ id, error: error.message });
    }
  };
}

export class Background {
  /** @param {string} script address of the worker's module. */
  constructor(script) {
    this.worker = new Worker(script, { type: "module" });
    this.waiting = new Map();
    this.count = 0;
    this.worker.onmessage = ({ data }) => this.#hear(data);
    this.worker.onerror = (event) => this.#fail(event.message ?? "the worker could not be started.");
  }

  /** Fetches the model. */
  load(progress) {
    return this.#ask("load", undefined, progress);
  }

  /** @returns {Promise<object>} what the model makes of a request. */
  generate(request, progress) {
    return this.#ask("generate", request, progress);
  }

  #ask(action, request, progress) {
    const id = this.count++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject, progress });
      this.worker.postMessage({ id, action, request });
    });
  }

  #hear({ id, fraction, words, error, result }) {
    const { resolve, reject, progress } = this.waiting.get(id);
    if (fraction !== undefined) return progress?.(fraction, words);
    this.waiting.delete(id);
    return error === undefined ? resolve(result) : reject(new Error(error));
  }

  #fail(message) {
    for (const { reject } of this.waiting.values()) reject(new Error(message));
    this.waiting.clear();
  }
}
