// A position in a text, after a token: what the model says of the next one. Positions form a tree of continuations.
import { softmax } from "./softmax.mjs";

// Tokens with a smaller probability are sorted only when they are needed.
export const RARE = 0.002;

export class Position {
  children = new Map(); // token id -> the position after it, for tokens that ran
  #temperature = null; // of the probabilities below
  #shares;
  #top;
  #sums;

  // `logits`: float32 [vocabulary]. `state` is that of several positions after one call; `row` is the position's.
  constructor({ logits, state, row = 0 }) {
    this.logits = logits;
    this.state = state;
    this.row = row;
  }

  // The position, with its probabilities at a temperature above 0.
  at(temperature) {
    if (temperature !== this.#temperature) {
      this.#temperature = temperature;
      this.#shares = softmax(this.logits, temperature);
      this.#top = null;
      this.#sums = new Map();
    }
    return this;
  }

  // Probabilities of the next token, float32 [vocabulary].
  get shares() {
    return this.#shares;
  }

  // Ids of the tokens that are not rare, the most probable first.
  get top() {
    this.#top ??= sortByShare(frequent(this.#shares), this.#shares);
    return this.#top;
  }

  // The probability of these tokens together, kept for this array.
  sum(ids) {
    let found = this.#sums.get(ids);
    if (found === undefined) {
      found = 0;
      for (let place = 0; place < ids.length; place++) found += this.#shares[ids[place]];
      this.#sums.set(ids, found);
    }
    return found;
  }
}

// Sorts ids in place, the most probable token first, equal ones in their order.
export const sortByShare = (ids, shares) => ids.sort((one, other) => shares[other] - shares[one]);

function frequent(shares) {
  const ids = [];
  for (let id = 0; id < shares.length; id++) if (shares[id] > RARE) ids.push(id);
  return ids;
}
