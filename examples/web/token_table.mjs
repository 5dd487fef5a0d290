// Which tokens of the rule `bpe` begin a word, which make it longer, which hold typed letters.
//
// A word is a piece of the rule (see byte_pairs.mjs) without the space before it: letters, also with an apostrophe and
// more letters; digits; marks. White space is no word. Bytes are byte strings.
import { MARKS } from "./byte_pairs.mjs";
import { bytesOfToken } from "./byte_strings.mjs";

const CACHED_PAIRS = 1 << 16;
const CACHED_LETTERS = 1 << 10;

// What a word is after its last token: that decides which tokens make it longer.
export const KIND = {
  NOTHING: 0,
  LETTERS: 1,
  TAIL: 2, // letters after an apostrophe
  APOSTROPHE: 3, // letters and an apostrophe: letters may follow, else it is a mark after the word
  DIGITS: 4,
  MARKS: 5,
  SPACE: 6, // the space before a word
};
const KINDS = Object.values(KIND);
const IN_WORDS = [KIND.LETTERS, KIND.TAIL, KIND.APOSTROPHE];

const LETTER = "[A-Za-z\\x80-\\xff]";
const FORMS = [
  [` ?${LETTER}+`, KIND.LETTERS],
  [` ?${LETTER}+'${LETTER}+`, KIND.TAIL],
  [` ?${LETTER}+'`, KIND.APOSTROPHE],
  [" ?[0-9]+", KIND.DIGITS],
  [` ?[${MARKS}]+`, KIND.MARKS],
  [" ", KIND.SPACE],
].map(([form, kind]) => [new RegExp(`^${form}$`), kind]);
const APOSTROPHE_AND_LETTERS = new RegExp(`^'${LETTER}+$`);
// Index = kind: what the bytes of a token begin with that makes a word longer; an apostrophe alone may.
const LONGER = ["(?!)", `'?${LETTER}`, LETTER, LETTER, "[0-9]", `[${MARKS}]`, "[^ \\x00-\\x1f\\x7f]"].map(
  (beginning) => new RegExp(`^${beginning}`),
);

// A table is a Uint8Array [vocabulary]: the kind of a word after each token, NOTHING for tokens that do not fit.
export class TokenTable {
  #vocabulary;
  #sortedIds; // by their bytes
  #ids = new Map(); // bytes -> id
  #covering = new Map(); // letters -> ids
  #follows = new Map(); // left * vocabulary + right -> boolean

  constructor(vocabulary) {
    this.#vocabulary = vocabulary;
    const { tokens, unknownId } = vocabulary;
    // Each token's bytes; none for the unknown token.
    this.data = tokens.map((token, id) => (id === unknownId ? "" : bytesOfToken(token)));
    this.apostrophe = vocabulary.id("'");
    this.data.forEach((data, id) => this.#ids.set(data, id));
    const order = (one, other) => (this.data[one] < this.data[other] ? -1 : 1);
    this.#sortedIds = Int32Array.from(tokens.keys()).sort(order);
    this.#makeTables();
  }

  #makeTables() {
    const table = (kindOf) => Uint8Array.from(this.data, (_, id) => kindOf(id));
    const without = (found) => table((id) => (id === this.apostrophe ? KIND.NOTHING : found[id]));
    // The first tokens of words, and those of words after a text that ends with a kind.
    this.firsts = table((id) => this.#first(id));
    this.begins = KINDS.map((kind) => table((id) => (this.#begins(kind, id) ? this.firsts[id] : KIND.NOTHING)));
    // Index = kind of a word: the tokens that make it longer.
    this.moves = KINDS.map((kind) => table((id) => this.#longer(kind, id)));
    // Parts of them.
    this.quotes = without(this.moves[KIND.MARKS]);
    this.lettersOnly = without(this.moves[KIND.LETTERS]);
    this.onlyApostrophe = table((id) => (id === this.apostrophe ? KIND.MARKS : KIND.NOTHING));
    // Index = kind of a word: ids of the tokens that do not make it longer; for letters without the token `'`.
    const ids = (fits) => Int32Array.from([...this.data.keys()].filter(fits));
    const ends = (kind, id) => !LONGER[kind].test(this.data[id]);
    this.ends = KINDS.map((kind) => ids((id) => ends(kind, id) && !(kind === KIND.LETTERS && id === this.apostrophe)));
    // Ids of the tokens that make neither marks nor letters longer.
    this.endsOfApostrophe = ids((id) => ends(KIND.APOSTROPHE, id) && ends(KIND.MARKS, id));
  }

  #first(id) {
    const kind = FORMS.find(([form]) => form.test(this.data[id]))?.[1];
    const { tokens, tokenization } = this.#vocabulary;
    return kind !== undefined && tokenization.isSubword([tokens[id]]) ? kind : KIND.NOTHING;
  }

  // After white space a word begins without a space; else with one, or where another kind of word begins.
  #begins(kind, id) {
    const isSpaced = this.data[id].startsWith(" ");
    if (kind === KIND.NOTHING || kind === KIND.SPACE) return !isSpaced;
    const first = this.firsts[id];
    if (kind === KIND.DIGITS || kind === KIND.MARKS) return isSpaced || first !== kind;
    const isSame = IN_WORDS.includes(first) || (kind === KIND.APOSTROPHE && first === KIND.MARKS);
    return isSpaced || !isSame;
  }

  // The kind of a word that a token makes longer; a token with a space makes none longer.
  #longer(kind, id) {
    const data = this.data[id];
    const plain = data.startsWith(" ") ? KIND.NOTHING : this.firsts[id];
    if (kind === KIND.SPACE) return plain;
    if (kind === KIND.DIGITS || kind === KIND.MARKS) return plain === kind ? kind : KIND.NOTHING;
    if (kind === KIND.TAIL || kind === KIND.APOSTROPHE) return plain === KIND.LETTERS ? KIND.TAIL : KIND.NOTHING;
    if (kind === KIND.NOTHING) return KIND.NOTHING;
    if (id === this.apostrophe) return KIND.APOSTROPHE;
    if (APOSTROPHE_AND_LETTERS.test(data)) return KIND.TAIL;
    return IN_WORDS.includes(plain) ? plain : KIND.NOTHING;
  }

  // What a text ends with after this token, whatever stands before it.
  kindAfter(id) {
    if (APOSTROPHE_AND_LETTERS.test(this.data[id])) return KIND.TAIL;
    return this.firsts[id] === KIND.SPACE ? KIND.NOTHING : this.firsts[id];
  }

  // Ids of the tokens that begin with these bytes, in the order of their bytes; all for none.
  covering(letters) {
    let found = this.#covering.get(letters);
    if (found === undefined) {
      if (this.#covering.size >= CACHED_LETTERS) this.#covering.clear();
      const start = this.#place((data) => data >= letters);
      const end = this.#place((data) => data.slice(0, letters.length) > letters);
      found = this.#sortedIds.subarray(start, end);
      this.#covering.set(letters, found);
    }
    return found;
  }

  // The first place among the sorted ids from which on their bytes fit.
  #place(fits) {
    let [low, high] = [0, this.#sortedIds.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (fits(this.data[this.#sortedIds[middle]])) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  // Ids of the tokens with which these bytes begin, without that of all of them.
  within(letters) {
    const found = [];
    for (let size = 1; size < letters.length; size++) {
      const id = this.#ids.get(letters.slice(0, size));
      if (id !== undefined) found.push(id);
    }
    return found;
  }

  // Whether the rule writes these two neighbours in a piece so, and not with other tokens.
  follows(left, right) {
    const { size, tokens, tokenization } = this.#vocabulary;
    const pair = left * size + right;
    let found = this.#follows.get(pair);
    if (found === undefined) {
      if (this.#follows.size >= CACHED_PAIRS) this.#follows.clear();
      found = tokenization.isSubword([tokens[left], tokens[right]]);
      this.#follows.set(pair, found);
    }
    return found;
  }
}
