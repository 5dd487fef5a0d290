// The vocabulary: token <-> id, and text <-> ids with its tokenization.
import { ArtifactError } from "./errors.mjs";
import { TokenDecoder } from "./token_decoder.mjs";

export class Vocabulary {
  #ids;
  #alphabetical = null;

  // `tokens`: a list of distinct strings; a token's index is its id.
  constructor(tokens, tokenization) {
    if (!Array.isArray(tokens) || !tokens.every((token) => typeof token === "string")) {
      throw new ArtifactError("its lmtool.vocabulary is no list of strings");
    }
    this.tokens = tokens;
    this.tokenization = tokenization;
    this.#ids = new Map(tokens.map((token, id) => [token, id]));
    if (this.#ids.size !== tokens.length) throw new ArtifactError("its vocabulary holds a token twice");
    this.#checkRequired();
    this.unknownId = this.#ids.get(tokenization.unknown);
    this.endOfSentenceId = this.#ids.get(tokenization.endOfSentence);
    this.specialIds = [this.unknownId, this.endOfSentenceId];
  }

  #checkRequired() {
    const { required, unit, unknown, endOfSentence } = this.tokenization;
    for (const token of required) {
      const kind = token === unknown || token === endOfSentence ? "special token" : "token";
      if (!this.#ids.has(token)) throw new ArtifactError(`its vocabulary lacks the ${kind} "${token}"`);
    }
    if (unit === "subword" && this.size !== required.length) {
      const known = new Set(required);
      const other = this.tokens.find((token) => !known.has(token));
      throw new ArtifactError(`its vocabulary holds "${other}", which is no byte and which no merge makes`);
    }
  }

  get size() {
    return this.tokens.length;
  }

  has(token) {
    return this.#ids.has(token);
  }

  // The token's id, or the unknown token's.
  id(token) {
    return this.#ids.get(token) ?? this.unknownId;
  }

  // Ids of the tokens of `text`.
  encode(text) {
    return this.tokenization.split(text).map((token) => this.id(token));
  }

  // Text of the tokens with these ids.
  decode(ids) {
    const decoder = new TokenDecoder(this.tokenization);
    return ids.map((id) => decoder.add(this.tokens[id])).join("") + decoder.finish();
  }

  // Ids, in order, of the tokens that begin with `prefix`, without the unknown and the end-of-sentence token.
  completions(prefix) {
    this.#alphabetical ??= this.#sortedWords();
    const folded = this.tokenization.folded(prefix);
    const found = [];
    for (let index = firstFrom(this.#alphabetical, folded); index < this.#alphabetical.length; index++) {
      if (!this.#alphabetical[index].startsWith(folded)) break;
      found.push(this.#ids.get(this.#alphabetical[index]));
    }
    return found.sort((one, other) => one - other);
  }

  #sortedWords() {
    const { unknown, endOfSentence } = this.tokenization;
    return this.tokens.filter((token) => token !== unknown && token !== endOfSentence).sort();
  }
}

// Index of the first sorted word that is not before `text`.
function firstFrom(words, text) {
  let [low, high] = [0, words.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (words[middle] < text) low = middle + 1;
    else high = middle;
  }
  return low;
}
