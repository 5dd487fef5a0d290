// From text to tokens and back: the rules of lmtool, character for character as in Python.
//
// `whitespace` splits at white space; `words` and `words-2` are in words.mjs; `characters` makes each code point a token;
// `bpe` is in byte_pairs.mjs.
import { BYTE_TOKENS, BytePairs, unicodeText } from "./byte_pairs.mjs";
import { ArtifactError } from "./errors.mjs";
import { SPACE, WORD_RULES, withNewlines } from "./words.mjs";

const UNITS = { whitespace: "word", words: "word", "words-2": "word", characters: "char", bpe: "subword" };
const NEWLINE_TOKEN = "Ċ";
const UNKNOWN = "<unk>";

const SPACES = new RegExp(`[${SPACE}]+`, "u");
const ENDS_WITH_SPACE = new RegExp(`[${SPACE}]$`, "u");

const literal = (token) => token.replace(/[\\^$.*+?()[\]{}|/]/gu, "\\$&");
const splitAtSpaces = (text) => text.split(SPACES).filter(Boolean);

export const endsWithSpace = (text) => ENDS_WITH_SPACE.test(text);

export class Tokenization {
  #rule;
  #word;
  #pairs = null;

  // `json`: an object with the strings rule, unknown and end_of_sentence; for `bpe` also with the list merges.
  constructor(json) {
    for (const name of ["rule", "unknown", "end_of_sentence"]) {
      if (typeof json?.[name] !== "string") throw new ArtifactError(`its lmtool.tokenization lacks the string ${name}`);
    }
    this.rule = json.rule;
    this.unknown = json.unknown;
    this.endOfSentence = json.end_of_sentence;
    this.unit = Object.hasOwn(UNITS, this.rule) ? UNITS[this.rule] : null;
    this.merges = json.merges ?? [];
    this.#check();
    if (this.unit === "subword") this.#pairs = new BytePairs(this.merges, [NEWLINE_TOKEN, UNKNOWN]);
    this.#rule = Object.hasOwn(WORD_RULES, this.rule) ? WORD_RULES[this.rule] : null;
    const specials = `${literal(this.unknown)}|${literal(this.endOfSentence)}`;
    this.#word = this.#rule && new RegExp(`${specials}|${this.#rule.pattern}`, "gu");
  }

  #check() {
    if (this.unit === null) {
      const known = Object.keys(UNITS).join(", ");
      throw new ArtifactError(`its tokenization rule is "${this.rule}", expected one of ${known}`);
    }
    const specials = [this.unknown, this.endOfSentence];
    if (this.unit === "subword" && (this.unknown !== UNKNOWN || this.endOfSentence !== NEWLINE_TOKEN)) {
      throw new ArtifactError(`its special tokens are ${JSON.stringify(specials)}, the rule bpe has <unk> and Ċ`);
    }
    if (!Array.isArray(this.merges) || !this.merges.every((merge) => typeof merge === "string")) {
      throw new ArtifactError("the merges of its tokenization are no list of strings");
    }
    if (this.unit !== "subword" && this.merges.length > 0) {
      throw new ArtifactError(`its tokenization rule ${this.rule} has merges; only bpe has any`);
    }
    if (this.unit === "word" && specials.some((token) => token === "" || splitAtSpaces(token)[0] !== token)) {
      throw new ArtifactError(`its special tokens ${JSON.stringify(specials)} are empty or hold white space`);
    }
  }

  // The tokens that a vocabulary of this tokenization must hold; for `bpe` it holds no others.
  get required() {
    const specials = [this.endOfSentence, this.unknown];
    if (this.unit !== "subword") return specials;
    return [...new Set([...specials, ...BYTE_TOKENS, ...this.merges.map((merge) => merge.replace(" ", ""))])];
  }

  // `text` in the form of the rule's tokens.
  folded(text) {
    if (this.unit === "subword") return unicodeText(text);
    return this.#rule === null ? withNewlines(text) : this.#rule.folded(text, this.endOfSentence);
  }

  // The tokens of `text`; a newline becomes the end-of-sentence token.
  split(text) {
    if (this.unit === "subword") return this.#pairs.tokens(text);
    const folded = this.folded(text);
    if (this.rule === "characters") return Array.from(folded);
    if (this.rule === "whitespace") return splitAtSpaces(folded.replaceAll("\n", () => ` ${this.endOfSentence} `));
    const [first, ...others] = folded.split("\n");
    const find = (line) => line.match(this.#word) ?? [];
    return [...find(first), ...others.flatMap((line) => [this.endOfSentence, ...find(line)])];
  }

  // For a text that is still being typed: the tokens before its last word, and the letters of that word as typed, which
  // another letter would make longer; no letters after white space or a punctuation mark, or without text.
  splitUnfinished(text) {
    const tokens = this.split(text);
    if (this.unit !== "word" || tokens.length === 0) return { tokens, letters: "" };
    const before = this.split(`${text}x`);
    const longer = before.pop();
    return { tokens: tokens.slice(0, before.length), letters: this.#lettersOf(text, longer) };
  }

  // For `bpe`: the tokens of a text without its last piece, which may be unfinished, and that piece with the space before
  // it: { tokens, last }.
  splitLastPiece(text) {
    return this.#pairs.splitLastPiece(text);
  }

  // For `bpe`: whether a piece of these tokens' bytes is split into these tokens.
  isSubword(tokens) {
    return this.#pairs.isSubword(tokens);
  }

  // The end of `text` that becomes the token `longer` with another x.
  #lettersOf(text, longer) {
    const size = Array.from(longer).length - 1;
    if (size === 0) return "";
    const points = Array.from(text);
    const end = (count) => points.slice(points.length - count).join("");
    const fits = (count) => this.folded(`${end(count)}x`) === longer;
    if (fits(size)) return end(size);
    for (let count = Math.floor(size / 3) + 1; count <= points.length; count++) if (fits(count)) return end(count);
    return end(size);
  }

  // The text that `token` adds after the token `previous` (null: at the beginning); not for `bpe`. A TokenDecoder does so
  // for all rules.
  piece(token, previous) {
    if (this.unit === "char") return token;
    if (token === this.endOfSentence) return "\n";
    const text = this.#rule?.written[token] ?? token;
    return this.#touches(token, previous) ? text : ` ${text}`;
  }

  #touches(token, previous) {
    if (previous === null || previous === this.endOfSentence) return true;
    return this.#rule !== null && this.#rule.touches(token, previous);
  }
}
