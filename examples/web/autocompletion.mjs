// Suggestions while a text is typed; each keystroke runs as few tokens as possible.
import { likeliest } from "./sampling.mjs";
import { TokenDecoder } from "./token_decoder.mjs";

const KEPT = 64;

// The `count` most probable next tokens, never the end of a sentence, as suggestions after the text of `decoder`.
export function nextTokens(logits, vocabulary, decoder, { count, temperature }) {
  return likeliest(logits, { count, excluded: vocabulary.specialIds, temperature }).map(({ id, probability }) => {
    const token = vocabulary.tokens[id];
    return { token, shown: vocabulary.text(id), text: decoder.peek(token), start: 0, probability };
  });
}

// Suggests how a text may continue: the next word, the rest of a word, or the next character or part of a word.
//
// Recent positions are kept by their tokens: another letter of a word runs nothing, a finished word runs that word, and
// a deletion goes back to a kept position. One call at a time.
export class Autocompletion {
  #predictor;
  #vocabulary;
  #tokenization;
  #positions = new Map(); // token ids, joined -> { logits, state }; least recently used first

  constructor(predictor) {
    this.#predictor = predictor;
    this.#vocabulary = predictor.vocabulary;
    this.#tokenization = predictor.vocabulary.tokenization;
    this.tokensRun = 0; // since construction
  }

  // The `count` most probable continuations of `text`, never the end of a sentence: { token, shown, text, start, probability }.
  // `text` replaces the last -start UTF-16 units. Where the last word is whole, words after it are among longer words.
  async suggestions(text, count, temperature = 1) {
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

  // The position after these tokens, computed from the nearest kept one: { logits, state }.
  async position(tokens) {
    if (this.#positions.size === 0) await this.#start();
    const ids = tokens.map((token) => this.#vocabulary.id(token));
    const key = ids.map((id) => `${id},`).join("");
    const nearest = this.#nearest(key);
    let found = this.#positions.get(nearest);
    if (nearest !== key) {
      const known = nearest.split(",").length - 1;
      found = await this.#run(ids.slice(known), found.state);
    }
    this.#remember(key, found);
    return found;
  }

  // A text begins after the end of a sentence.
  async #start() {
    this.#remember("", await this.#run([this.#vocabulary.endOfSentenceId], this.#predictor.initialState()));
  }

  #nearest(key) {
    let nearest = "";
    for (const known of this.#positions.keys()) {
      if (known.length > nearest.length && key.startsWith(known)) nearest = known;
    }
    return nearest;
  }

  async #run(ids, state) {
    this.tokensRun += ids.length;
    return this.#predictor.step(ids, state);
  }

  // Keeps a position and drops the least recently used one, but never the beginning of the text.
  #remember(key, position) {
    this.#positions.delete(key);
    this.#positions.set(key, position);
    if (this.#positions.size > KEPT) {
      this.#positions.delete([...this.#positions.keys()].find((known) => known !== ""));
    }
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
      return { token, shown: token, text: letters + rest, start: -letters.length, probability };
    });
  }
}
