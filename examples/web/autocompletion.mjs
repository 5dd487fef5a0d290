// Suggestions while a text is typed; each keystroke runs as few tokens as possible.
import { Positions } from "./positions.mjs";
import { likeliest } from "./sampling.mjs";
import { TokenDecoder } from "./token_decoder.mjs";
import { WordFinder } from "./word_finder.mjs";

// The `count` most probable next tokens, never the end of a sentence, as suggestions after the text of `decoder`.
export function nextTokens(logits, vocabulary, decoder, { count, temperature }) {
  return likeliest(logits, { count, excluded: vocabulary.specialIds, temperature }).map(({ id, probability }) => {
    const token = vocabulary.tokens[id];
    return { shown: token, text: decoder.peek(token), start: 0, probability };
  });
}

// Suggests how a text may continue: the next word, the rest of a word, or the next character.
//
// Recent positions are kept by their tokens: another letter of a word runs nothing, a finished word runs that word, and
// a deletion goes back to a kept position. A model of the rule `bpe` reads parts of words; whole words are searched, and
// another letter of a word runs what the search did not need before. One call at a time.
export class Autocompletion {
  #vocabulary;
  #tokenization;
  #positions;
  #finder = null; // of whole words, if tokens are parts of them

  constructor(predictor) {
    this.#vocabulary = predictor.vocabulary;
    this.#tokenization = predictor.vocabulary.tokenization;
    this.#positions = new Positions(predictor);
    if (this.#tokenization.unit === "subword") this.#finder = new WordFinder(this.#vocabulary, this.#positions);
  }

  // The number of tokens that ran since construction.
  get tokensRun() {
    return this.#positions.tokensRun;
  }

  // Whether no other continuation is more probable than the last one of the latest; false if a search was cut.
  get exact() {
    return this.#finder === null || this.#finder.exact;
  }

  // The `count` most probable continuations of `text`, never the end of a sentence: { shown, text, start, probability }.
  // `text` replaces the last -start UTF-16 units. Where the last word may be whole, words after it are among longer words.
  async suggestions(text, count, temperature = 1) {
    if (this.#finder !== null) return this.#finder.continuations(text, count, temperature);
    const { tokens, letters } = this.#tokenization.splitUnfinished(text);
    if (letters === "") return this.#nextTokens(text, tokens, count, temperature);
    const whole = this.#tokenization.split(text);
    const words = await this.#rests(tokens, letters, count + 1, temperature);
    const endsWithMark = whole.length > tokens.length + 1;
    if (endsWithMark && words.length === 0) return this.#nextTokens(text, whole, count, temperature);
    const found = words.filter((word) => word.text !== letters);
    for (const word of words.filter(({ text }) => text === letters)) {
      const after = await this.#nextTokens(text, whole, count, temperature);
      found.push(...after.map((next) => ({ ...next, probability: word.probability * next.probability })));
    }
    return found.sort((one, other) => other.probability - one.probability).slice(0, count);
  }

  // The `count` most probable words after `text`, whose last word is whole: { shown, probability, ... }.
  async nextWords(text, count, temperature = 1) {
    const tokens = this.#tokenization.split(text);
    if (this.#finder === null) return this.#nextTokens(text, tokens, count, temperature);
    return this.#finder.next(this.#ids(tokens), count, temperature);
  }

  // The position after these tokens, computed from the nearest kept one: { logits, state }.
  position(tokens) {
    return this.#positions.after(this.#ids(tokens));
  }

  #ids(tokens) {
    return tokens.map((token) => this.#vocabulary.id(token));
  }

  async #nextTokens(text, tokens, count, temperature) {
    const { logits } = await this.position(tokens);
    const decoder = TokenDecoder.after(this.#tokenization, text, tokens);
    return nextTokens(logits, this.#vocabulary, decoder, { count, temperature });
  }

  // Words that begin with these letters; the letters stay as they were typed.
  async #rests(tokens, letters, count, temperature) {
    const { logits } = await this.position(tokens);
    const found = likeliest(logits, { count, ids: this.#vocabulary.completions(letters), temperature });
    const typed = Array.from(this.#tokenization.folded(letters)).length;
    return found.map(({ id, probability }) => {
      const token = this.#vocabulary.tokens[id];
      const rest = Array.from(token).slice(typed).join("");
      return { shown: token, text: letters + rest, start: -letters.length, probability };
    });
  }
}
