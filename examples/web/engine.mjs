// The page's client of worker.mjs: each call becomes a message, and its answer resolves a promise.

export class Engine {
  #worker = new Worker(new URL("./worker.mjs", import.meta.url), { type: "module" });
  #waiting = new Map();
  #count = 0;

  constructor() {
    this.#worker.onmessage = ({ data: { id, result, error } }) => {
      const { resolve, reject } = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) resolve(result);
      else reject(new Error(error));
    };
    this.#worker.onerror = () => this.#fail();
  }

  // Opens a model from its bytes (an ArrayBuffer, which is transferred) or a path of this site; returns its facts, or
  // null if an optional model is missing.
  open({ bytes, path, name, optional }) {
    return this.#send({ call: "open", bytes, path, name, optional }, bytes ? [bytes] : []);
  }

  // { suggestions, exact, milliseconds, tokensRun } at the end of a text.
  suggest(text, count, temperature) {
    return this.#send({ call: "suggest", text, count, temperature });
  }

  // Begins to generate after a text; `seed` is null or an integer.
  begin(text, seed) {
    return this.#send({ call: "begin", text, seed });
  }

  // Generates one token: { piece, suggestions, exact }.
  write(temperature, count) {
    return this.#send({ call: "write", temperature, count });
  }

  #send(message, moved = []) {
    const id = ++this.#count;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, ...message }, moved);
    });
  }

  // The worker's files are missing, or it failed: it answers nothing more.
  #fail() {
    const error = new Error(
      "the model's thread could not start; expected onnxruntime-web in node_modules: npm ci --ignore-scripts",
    );
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}
