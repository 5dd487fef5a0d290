// Text generation: samples a token, reads it and returns its text, one token at a time.
import { nextTokens } from "./autocompletion.mjs";
import { SeededRandom, UnseededRandom } from "./random.mjs";
import { draw } from "./sampling.mjs";
import { TokenDecoder } from "./token_decoder.mjs";

const SPACE = "\u0120"; // in the byte alphabet of `bpe`

export class Writing {
  #predictor;
  #autocompletion;
  #text; // so far
  #position;
  #decoder;
  #letters;
  #random;

  // Continues after `text`. If its last word is incomplete and not in the vocabulary, the word is completed first. With
  // `bpe` the first token takes a space at the end of `text`.
  // `seed`: an integer makes the text repeatable; null gives another text each time.
  static async begin(predictor, autocompletion, text, seed) {
    const { vocabulary } = predictor;
    const { read, letters } = unfinished(vocabulary, text);
    const random = seed === null ? new UnseededRandom() : new SeededRandom(seed);
    const position = await autocompletion.position(read);
    const decoder = TokenDecoder.after(vocabulary.tokenization, text, read);
    return new Writing({ predictor, autocompletion, text, position, decoder, letters, random });
  }

  constructor({ predictor, autocompletion, text, position, decoder, letters, random }) {
    this.#predictor = predictor;
    this.#autocompletion = autocompletion;
    this.#text = text;
    this.#position = position; // { logits, state }
    this.#decoder = decoder; // of the text so far
    this.#letters = letters; // that the next token begins with: of the word that it completes, or a space
    this.#random = random;
  }

  // Suggestions after the text so far: of the next token, or of whole words if tokens are parts of them.
  async suggestions(count, temperature) {
    const { unit } = this.#predictor.vocabulary.tokenization;
    if (unit === "subword") return this.#autocompletion.suggestions(this.#text, count, temperature);
    return nextTokens(this.#position.logits, this.#predictor.vocabulary, this.#decoder, { count, temperature });
  }

  // Samples the next token, never the unknown one, and returns the text that it adds; empty if a character is not
  // complete.
  async next(temperature) {
    const { vocabulary } = this.#predictor;
    const letters = this.#letters;
    const ids = letters ? vocabulary.completions(letters) : null;
    const among = { ids, excluded: [vocabulary.unknownId] };
    const id = draw(this.#position.logits, { temperature, random: this.#random, ...among });
    this.#position = await this.#predictor.step([id], this.#position.state);
    const token = vocabulary.tokens[id];
    const whole = this.#decoder.add(token);
    const { tokenization } = vocabulary;
    const added = tokenization.unit === "subword" ? whole : token;
    const piece = letters ? withoutFirst(added, tokenization.folded(letters)) : whole;
    this.#letters = "";
    this.#text += piece;
    return piece;
  }
}

// The tokens to read before `text` is continued, and the letters that the next token begins with.
function unfinished(vocabulary, text) {
  const { tokenization } = vocabulary;
  if (tokenization.unit === "subword" && text.endsWith(" ")) {
    return { read: tokenization.split(text.slice(0, -1)), letters: SPACE };
  }
  const { tokens, letters } = tokenization.splitUnfinished(text);
  const known = letters === "" || vocabulary.has(tokenization.folded(letters));
  const begun = !known && vocabulary.completions(letters).length > 0;
  return begun ? { read: tokens, letters } : { read: tokenization.split(text), letters: "" };
}

const withoutFirst = (token, letters) => Array.from(token).slice(Array.from(letters).length).join("");
