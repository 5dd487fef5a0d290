// Text generation: samples a token, reads it and returns its text, one token at a time.
import { nextTokens } from "./autocompletion.mjs";
import { SeededRandom, UnseededRandom } from "./random.mjs";
import { draw } from "./sampling.mjs";
import { TokenDecoder } from "./token_decoder.mjs";

export class Writing {
  #predictor;
  #position;
  #decoder;
  #letters;
  #random;

  // Continues after `text`. If its last word is incomplete and not in the vocabulary, the word is completed first.
  // `seed`: an integer makes the text repeatable; null gives another text each time.
  static async begin(predictor, autocompletion, text, seed) {
    const { vocabulary } = predictor;
    const { tokenization } = vocabulary;
    const { tokens, letters } = tokenization.splitUnfinished(text);
    const known = letters === "" || vocabulary.has(tokenization.folded(letters));
    const begun = !known && vocabulary.completions(letters).length > 0;
    const read = begun ? tokens : tokenization.split(text);
    const random = seed === null ? new UnseededRandom() : new SeededRandom(seed);
    const position = await autocompletion.position(read);
    const decoder = TokenDecoder.after(tokenization, text, read);
    return new Writing(predictor, position, decoder, begun ? letters : "", random);
  }

  constructor(predictor, position, decoder, letters, random) {
    this.#predictor = predictor;
    this.#position = position; // { logits, state }
    this.#decoder = decoder; // of the text so far
    this.#letters = letters; // of the word that the next token must complete
    this.#random = random;
  }

  // Suggestions of the next token after the text so far.
  suggestions(count, temperature) {
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
    const piece = this.#decoder.add(token);
    this.#letters = "";
    return letters ? withoutFirst(token, vocabulary.tokenization.folded(letters)) : piece;
  }
}

const withoutFirst = (token, letters) => Array.from(token).slice(Array.from(letters).length).join("");
