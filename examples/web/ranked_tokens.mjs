// The tokens after a path of a search, the most probable first; rarer ones are sorted when they are needed.
import { RARE, sortByShare } from "./position.mjs";

const RARER = 1 / 16; // the next tokens to be sorted: down to this share of the probability of those before
const RAREST = 1e-5; // all that are rarer are sorted together

export class RankedTokens {
  #table;
  #ids;
  #place = 0;
  #sorted = RARE; // tokens with a larger probability are among the ids

  // `path`: what they make longer; `kinds`: the tokens that fit, and the kind of the word after each; `start`: where
  // the word begins in the path's text; `joins`: whether they belong to the same piece as the path's last token.
  constructor(table, path, kinds, start, joins) {
    Object.assign(this, { path, kinds, start, joins });
    this.#table = table;
    this.#ids = path.position.top.filter((id) => kinds[id] !== 0 && table.data[id].startsWith(path.rest));
  }

  // At least the probability of the next path; 0 if there is none.
  get chance() {
    const { position, probability } = this.path;
    if (this.#place < this.#ids.length) return probability * position.shares[this.#ids[this.#place]];
    return probability * this.#sorted;
  }

  // The next token and its path's probability, { id, chance }; null if that has yet to be found. Tokens whose path is not
  // more probable than `floor` may be left out.
  take(floor) {
    if (this.#place === this.#ids.length) {
      this.#addRarer(floor);
      return null;
    }
    const { chance } = this;
    return { id: this.#ids[this.#place++], chance };
  }

  #addRarer(floor) {
    const { probability, position, rest } = this.path;
    const { shares } = position;
    const most = this.#sorted;
    this.#sorted = most > RAREST ? most * RARER : 0;
    const least = Math.max(this.#sorted, floor / probability);
    const fits = (id) => shares[id] <= most && shares[id] > least && this.kinds[id] !== 0;
    this.#ids = this.#ids.concat(sortByShare(Array.from(this.#table.covering(rest)).filter(fits), shares));
  }
}
