// Whole words by a model of the rule `bpe`: those that may follow a text, and the rests of the word that is being typed.
import { bytesOfText, textOf } from "./byte_strings.mjs";
import { KIND, TokenTable } from "./token_table.mjs";
import { WordSearch } from "./word_search.mjs";

const LONGEST_TYPED = 32; // bytes; of more letters the first ones are read as the rule writes them
const KEPT_PATHS = 1024; // that ran; more are forgotten

const beginsAtCharacter = (data) => !(data >= "\x80" && data < "\xc0");
const shown = (data) => textOf(data).replace(/^ /u, "");

export class WordFinder {
  #vocabulary;
  #positions;
  #table;
  #space;
  #ran = 0; // paths since they were forgotten

  // `positions` are those of the text.
  constructor(vocabulary, positions) {
    this.#vocabulary = vocabulary;
    this.#positions = positions;
    this.#table = new TokenTable(vocabulary);
    this.#space = this.#table.data.indexOf(" ");
    this.exact = true; // whether no other word is more probable than the last one of those that were found last
  }

  // The most probable continuations of a text that is being typed: { text, start, shown, probability }. `text` is to be
  // appended; `shown` is the word without the space before it.
  async continuations(text, count, temperature) {
    const { ids, letters, whole } = this.#split(text);
    const position = await this.#positions.after(ids);
    const wish = { count, typed: letters, beyond: true, withSpaces: true };
    const words = await this.#search(position, wish, temperature);
    this.exact &&= whole;
    return words.map(({ data, start, probability }) => ({
      text: textOf(data.slice(letters.length)),
      start: 0,
      shown: shown(data.slice(start)),
      probability,
    }));
  }

  // The most probable words after these tokens, which end with a whole word: { shown, probability }. A space at the end
  // belongs to the next word.
  async next(ids, count, temperature) {
    const isSpaced = ids.at(-1) === this.#space;
    const position = await this.#positions.after(isSpaced ? ids.slice(0, -1) : ids);
    const before = isSpaced || ids.length === 0 ? KIND.NOTHING : this.#table.kindAfter(ids.at(-1));
    const words = await this.#search(position, { count, typed: isSpaced ? " " : "", before }, temperature);
    return words.map(({ data, probability }) => ({ shown: shown(data), probability }));
  }

  // At temperature 0 the most probable word has probability 1.
  async #search(position, wish, temperature) {
    const search = new WordSearch(this.#table, this.#positions, { ...wish, temperature: temperature || 1 });
    const { words, exact, ran } = await search.after(position);
    this.exact = exact;
    this.#count(ran);
    return temperature ? words : words.map((word, place) => ({ ...word, probability: Number(place === 0) }));
  }

  // The tokens of a text, and the letters of its last word, which may be unfinished: { ids, letters, whole }. `letters`
  // are bytes, with the space before them; `whole`: whether they begin where the word does.
  #split(text) {
    const { tokens, last } = this.#vocabulary.tokenization.splitLastPiece(text);
    const ids = tokens.map((token) => this.#vocabulary.id(token));
    let letters = bytesOfText(last);
    if (letters.length <= LONGEST_TYPED) return { ids, letters, whole: true };
    for (const id of this.#vocabulary.encode(last)) {
      if (letters.length <= LONGEST_TYPED && beginsAtCharacter(letters)) break;
      ids.push(id);
      letters = letters.slice(this.#table.data[id].length);
    }
    return { ids, letters, whole: false };
  }

  // Counts paths that ran, and forgets all when they are too many.
  #count(ran) {
    this.#ran += ran;
    if (this.#ran <= KEPT_PATHS) return;
    this.#ran = 0;
    this.#positions.forget();
  }
}
