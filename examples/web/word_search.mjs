// The best-first search for the most probable words after a text.
//
// A path is a way to write the begin of a word in tokens. The most probable paths run first, several in one call, until
// none can become a word that is more probable than those that were found. Only tokens as the rule writes them are
// followed: the model has read no others. So each word has one path, and its probability is the product of its tokens'
// probabilities and the probability that the next token does not make it longer.
import { isText } from "./byte_strings.mjs";
import { Heap } from "./heap.mjs";
import { RankedTokens } from "./ranked_tokens.mjs";
import { KIND } from "./token_table.mjs";

const ROWS = 16; // most paths that run in one call
const MOST_PATHS = 192;
const PATHS_PER_WORD = 4;
const LIMIT = 2048;
const LONGEST_WORD = 64; // bytes
// Share of the probability of the typed letters that may be unknown; half of it for a word before an apostrophe.
const UNSURE = 0.002;

// One search: `await new WordSearch(table, positions, wish).after(position)`. `wish` is an object of
//   count: the number of words;
//   typed: the bytes that the continuation begins with: one piece of the rule that may be unfinished, or none;
//   before: the kind of what the text before `typed` ends with;
//   beyond: whether the word that was typed may be whole, so that the next one is suggested in its place;
//   withSpaces: whether a word with a space before it and one without are two;
//   temperature: above 0.
//
// A path is { position, probability, text, rest, kind, token, start }: `text` and then `rest` begin with the typed
// letters, `start` is where the word begins in `text`, `token` is the last token. Texts are byte strings.
export class WordSearch {
  #table;
  #positions;
  #wish;
  #words = new Map(); // key -> { data, start, probability }
  #last = 0; // probability of the last of the words that are wanted
  #open = new Heap(); // ranked tokens, and paths with an apostrophe
  #parts = new Heap(); // paths within the typed letters, without their last token
  #total; // probability of the typed letters
  #dropped = 0;
  #ran = 0;
  #longest;

  constructor(table, positions, wish) {
    this.#table = table;
    this.#positions = positions;
    this.#wish = { typed: "", before: KIND.NOTHING, beyond: false, withSpaces: false, temperature: 1, ...wish };
    this.#total = this.#wish.typed ? 0 : 1;
    this.#longest = this.#wish.typed.length + LONGEST_WORD;
  }

  // The most probable words after a position: { words, exact, ran }. `words` are { data, start, probability }: the bytes
  // after the text, the typed letters first, and where in them the word begins. `exact`: whether no other word is as
  // probable as the last of them. `ran`: the number of paths that ran.
  async after(position) {
    const { typed, count } = this.#wish;
    this.#expand({ position, probability: 1, text: "", rest: typed, kind: KIND.NOTHING, token: -1, start: 0 });
    const limit = Math.min(MOST_PATHS + PATHS_PER_WORD * count, LIMIT);
    for (let paths; this.#ran < limit && (paths = this.#nextPaths()).length > 0;) {
      this.#ran += paths.length;
      const before = paths.map((path) => path.position);
      const tokens = paths.map((path) => path.token);
      const found = await this.#positions.run(before, tokens);
      paths.forEach((path, place) => this.#expand({ ...path, position: found[place] }));
    }
    return this.#found();
  }

  #found() {
    const exact = Math.max(this.#open.highest, this.#dropped) <= this.#last && !this.#isTotalUnsure();
    const best = [...this.#words.values()].sort(order).slice(0, this.#wish.count);
    const share = (probability) => Math.min(probability / (this.#total || 1), 1);
    const words = best.map(({ probability, ...word }) => ({ ...word, probability: share(probability) }));
    return { words, exact, ran: this.#ran };
  }

  // Paths to run: each with the position before its last token. Paths that ran before are expanded.
  #nextPaths() {
    const waiting = [];
    for (let path; waiting.length < ROWS && (path = this.#nextPath()) !== null;) {
      const known = path.position.children.get(path.token);
      if (known === undefined) waiting.push(path);
      else this.#expand({ ...path, position: known });
    }
    return waiting;
  }

  #nextPath() {
    if (this.#parts.highest > this.#last || this.#isTotalUnsure()) return this.#parts.pop();
    while (this.#open.highest > this.#last) {
      const first = this.#open.pop();
      if (!(first instanceof RankedTokens)) return first;
      const taken = first.take(this.#last);
      if (first.chance > this.#last) this.#open.push(first.chance, first);
      const longer = taken && this.#longer(first, taken);
      if (longer) return longer;
    }
    return null;
  }

  // Whether the paths that have not run may hold too much of the probability of the typed letters.
  #isTotalUnsure() {
    return this.#parts.total > UNSURE * this.#total;
  }

  // The path with one more token; null if the rule does not write it so, or it is too long.
  #longer({ path, kinds, start, joins }, { id, chance }) {
    let kind = kinds[id];
    if (joins && path.token >= 0 && !this.#table.follows(path.token, id)) {
      if (path.kind !== KIND.LETTERS || id !== this.#table.apostrophe || path.rest === "") return null;
      kind = KIND.MARKS;
    }
    const text = path.text + this.#table.data[id];
    if (text.length > this.#longest) {
      this.#dropped = Math.max(this.#dropped, chance);
      return null;
    }
    return { position: path.position, probability: chance, text, rest: "", kind, token: id, start };
  }

  // Opens the tokens of the table `kinds` after a path.
  #push(path, kinds, start, joins) {
    if (path.probability <= this.#last) return;
    const tokens = new RankedTokens(this.#table, path, kinds, start, joins);
    if (tokens.chance > this.#last) this.#open.push(tokens.chance, tokens);
  }

  // Finds the word that ends at the position of a path, and opens the paths that go on.
  #expand(path) {
    path.position.at(this.#wish.temperature);
    if (path.rest !== "") this.#expandTyped(path);
    else if (path.text === "") this.#push(path, this.#table.begins[this.#wish.before], 0, false);
    else if (path.kind === KIND.APOSTROPHE) this.#expandApostrophe(path);
    else this.#expandWord(path);
  }

  // Goes on with the tokens that hold the rest of the typed letters, or some of it.
  #expandTyped(path) {
    const { position, probability, text, rest } = path;
    const table = this.#table;
    this.#total += probability * position.sum(table.covering(rest));
    const joins = text !== "";
    const kinds = joins ? table.moves[path.kind] : table.firsts;
    this.#push(path, kinds, 0, joins);
    // The apostrophe that was typed may be a mark.
    if (joins && path.kind === KIND.LETTERS) this.#push(path, table.quotes, text.length, false);
    for (const token of table.within(rest)) {
      const [kind, chance] = [kinds[token], probability * position.shares[token]];
      if (kind === KIND.NOTHING || chance === 0 || (joins && !table.follows(path.token, token))) continue;
      const { length } = table.data[token];
      const longer = { text: text + rest.slice(0, length), rest: rest.slice(length), kind, token, start: 0 };
      this.#parts.push(chance, { position, probability: chance, ...longer });
    }
  }

  #expandWord(path) {
    const { position, probability, text, kind, token, start } = path;
    const table = this.#table;
    this.#push(path, kind === KIND.LETTERS ? table.lettersOnly : table.moves[kind], start, true);
    if (kind === KIND.SPACE) return;
    const hasTail = kind === KIND.LETTERS && table.follows(token, table.apostrophe);
    const hasMark = kind === KIND.LETTERS && !hasTail;
    let ended = 0; // probability of the word
    if (this.#wish.beyond && text === this.#wish.typed) {
      this.#push(path, table.begins[kind], text.length, false);
      if (hasMark) this.#push(path, table.onlyApostrophe, text.length, false);
    } else {
      ended = probability * (position.sum(table.ends[kind]) + (hasMark ? position.shares[table.apostrophe] : 0));
      this.#find(text, start, ended);
    }
    if (hasTail) this.#pushApostrophe(path, ended);
  }

  // Opens the path with an apostrophe after letters; it runs before `ended`, their probability, is relied on.
  #pushApostrophe({ position, probability, text, start }, ended) {
    const token = this.#table.apostrophe;
    const chance = probability * position.shares[token];
    const urgency = chance > (UNSURE / 2) * ended ? ended + chance : chance;
    if (urgency <= this.#last || text.length >= this.#longest) return;
    const longer = { text: `${text}'`, rest: "", kind: KIND.APOSTROPHE, token, start };
    this.#open.push(urgency, { position, probability: chance, ...longer });
  }

  // Letters and an apostrophe: it belongs to the word if letters follow, else the word ended before it.
  #expandApostrophe(path) {
    const { position, probability, text, start } = path;
    const [table, { typed, beyond }] = [this.#table, this.#wish];
    const word = text.slice(0, -1);
    this.#push(path, table.moves[KIND.TAIL], start, true);
    const isMark = beyond && start === 0 && (typed === word || typed === text);
    if (isMark) this.#push(path, table.moves[KIND.MARKS], word.length, true);
    if (isMark && typed === text) {
      this.#push(path, table.begins[KIND.APOSTROPHE], typed.length, false);
    } else if (isMark) {
      // The apostrophe is the next word.
      this.#find(text, word.length, probability * position.sum(table.endsOfApostrophe));
    } else if (typed !== text) {
      this.#find(word, start, probability * position.sum(table.ends[KIND.APOSTROPHE]));
    }
  }

  // Counts a word, if it is text and all that was typed is in it.
  #find(text, start, chance) {
    const { typed, count, withSpaces } = this.#wish;
    const word = text.slice(start).replace(/^ /, "");
    if (!text.startsWith(typed) || !isText(word)) return;
    const found = withSpaces || typed ? { data: text, start } : { data: word, start: 0 };
    const key = `${found.start} ${found.data}`;
    const probability = (this.#words.get(key)?.probability ?? 0) + chance;
    this.#words.set(key, { ...found, probability });
    if (this.#words.size < count || chance <= this.#last) return;
    this.#last = [...this.#words.values()].sort(order)[count - 1].probability;
  }
}

// The most probable words first, equal ones by their bytes.
function order(one, other) {
  const place = (lower, higher) => (lower < higher ? -1 : Number(lower > higher));
  return other.probability - one.probability || place(one.data, other.data) || place(one.start, other.start);
}
