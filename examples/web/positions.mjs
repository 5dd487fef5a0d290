// The positions of a text: runs tokens after them, and keeps those after the latest beginnings of the text.
import { Position } from "./position.mjs";

const KEPT = 64;
const keyOf = (ids) => ids.map((id) => `${id},`).join("");

export class Positions {
  #predictor;
  #kept = new Map(); // key of token ids -> position; least recently used first

  constructor(predictor) {
    this.#predictor = predictor;
    this.tokensRun = 0; // since construction
  }

  // The position after these tokens, kept, or computed from the nearest one that is.
  async after(ids) {
    if (this.#kept.size === 0) await this.#start();
    const key = keyOf(ids);
    const nearest = this.#nearest(key);
    let position = this.#kept.get(nearest);
    if (nearest !== key) {
      let known = nearest.split(",").length - 1;
      for (let next; (next = position.children.get(ids[known])) !== undefined; known++) position = next;
      position = known < ids.length ? await this.#read(ids.slice(known), position) : this.#alone(position);
    }
    this.#keep(key, position);
    return position;
  }

  // Runs a token after each of these positions, in one call; the results become their children.
  async run(positions, ids) {
    this.tokensRun += ids.length;
    const results = await this.#predictor.stepRows(ids, positions);
    return results.map((result, place) => {
      const position = new Position(result);
      positions[place].children.set(ids[place], position);
      return position;
    });
  }

  // Forgets the continuations of all kept positions.
  forget() {
    for (const position of this.#kept.values()) position.children.clear();
  }

  // A text begins after the end of a sentence.
  async #start() {
    const start = { state: this.#predictor.initialState(), row: 0 };
    this.#keep("", await this.#read([this.#predictor.vocabulary.endOfSentenceId], start));
  }

  #nearest(key) {
    let nearest = "";
    for (const known of this.#kept.keys()) {
      if (known.length > nearest.length && key.startsWith(known)) nearest = known;
    }
    return nearest;
  }

  async #read(ids, position) {
    this.tokensRun += ids.length;
    return new Position(await this.#predictor.step(ids, this.#predictor.stacked([position])));
  }

  // The position without those of its call, whose memory can be freed then.
  #alone(position) {
    position.logits = position.logits.slice();
    position.state = this.#predictor.stacked([position]);
    position.row = 0;
    return position;
  }

  // Keeps a position and drops the least recently used one, but never the beginning of the text.
  #keep(key, position) {
    this.#kept.delete(key);
    this.#kept.set(key, position);
    if (this.#kept.size > KEPT) this.#kept.delete([...this.#kept.keys()].find((known) => known !== ""));
  }
}
