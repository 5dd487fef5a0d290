// From text to tokens and back: the three rules of lmtool, character for character as in Python.
//
// `whitespace` splits at white space; `words` lower-cases, keeps os.path and don't together and separates every other
// punctuation mark; `characters` makes each code point a token.
import { ArtifactError } from "./errors.mjs";

const UNITS = { whitespace: "word", words: "word", characters: "char" };

// Python's \w and \s. JavaScript's \w has ASCII letters only, and its \s other spaces.
const LETTER = String.raw`\p{L}\p{N}_`;
const SPACE = String.raw`\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000`;
const WITHIN_WORD = String.raw`'\u2019.\-`;

const SPACES = new RegExp(`[${SPACE}]+`, "u");
const ENDS_WITH_SPACE = new RegExp(`[${SPACE}]$`, "u");
const BEGINS_WITH_LETTER = new RegExp(`^[${LETTER}]`, "u");
const IS_WITHIN_WORD = new RegExp(`^[${WITHIN_WORD}]$`, "u");
const WORD = `[${LETTER}]+(?:[${WITHIN_WORD}][${LETTER}]+)*|[^${LETTER}${SPACE}]`;

const NO_SPACE_BEFORE = new Set(".,;:!?)]}%…");
const NO_SPACE_AFTER = new Set("([{");

const literal = (token) => token.replace(/[\\^$.*+?()[\]{}|/]/gu, "\\$&");
const splitAtSpaces = (text) => text.split(SPACES).filter(Boolean);

export const endsWithSpace = (text) => ENDS_WITH_SPACE.test(text);

export class Tokenization {
  #word;

  // `json`: an object with the strings rule, unknown and end_of_sentence.
  constructor(json) {
    for (const name of ["rule", "unknown", "end_of_sentence"]) {
      if (typeof json?.[name] !== "string") throw new ArtifactError(`its lmtool.tokenization lacks the string ${name}`);
    }
    this.rule = json.rule;
    this.unknown = json.unknown;
    this.endOfSentence = json.end_of_sentence;
    this.unit = Object.hasOwn(UNITS, this.rule) ? UNITS[this.rule] : null;
    this.#check();
    this.#word = new RegExp(`${literal(this.unknown)}|${literal(this.endOfSentence)}|${WORD}`, "gu");
  }

  #check() {
    if (this.unit === null) {
      const known = Object.keys(UNITS).join(", ");
      throw new ArtifactError(`its tokenization rule is "${this.rule}", expected one of ${known}`);
    }
    const specials = [this.unknown, this.endOfSentence];
    if (this.unit === "word" && specials.some((token) => token === "" || splitAtSpaces(token)[0] !== token)) {
      throw new ArtifactError(`its special tokens ${JSON.stringify(specials)} are empty or hold white space`);
    }
  }

  // `text` in the letter case of the rule's tokens.
  folded(text) {
    return this.rule === "words" ? text.toLowerCase() : text;
  }

  // The tokens of `text`; a newline becomes the end-of-sentence token.
  split(text) {
    if (this.rule === "characters") return Array.from(text);
    if (this.rule === "whitespace") return splitAtSpaces(text.replaceAll("\n", () => ` ${this.endOfSentence} `));
    const [first, ...others] = this.folded(text).split("\n");
    const find = (line) => line.match(this.#word) ?? [];
    return [...find(first), ...others.flatMap((line) => [this.endOfSentence, ...find(line)])];
  }

  // For a text that is still being typed: the tokens before its last word, and the letters of that word as typed; no
  // letters after white space or a punctuation mark, or without text. A mark that can be inside a word is a letter.
  splitUnfinished(text) {
    const tokens = this.split(text);
    if (this.unit === "char" || tokens.length === 0 || endsWithSpace(text)) return { tokens, letters: "" };
    const count = this.rule === "whitespace" ? 1 : this.#countUnfinished(tokens, this.folded(text));
    const size = tokens.slice(tokens.length - count).reduce((sum, token) => sum + Array.from(token).length, 0);
    return { tokens: tokens.slice(0, tokens.length - count), letters: lastCodePoints(text, size) };
  }

  // How many tokens at the end of the folded text can be the beginning of one word.
  #countUnfinished(tokens, text) {
    const [previous, last] = [tokens.at(-2), tokens.at(-1)];
    if (BEGINS_WITH_LETTER.test(last)) return 1;
    if (previous === undefined || !IS_WITHIN_WORD.test(last)) return 0;
    return BEGINS_WITH_LETTER.test(previous) && text.endsWith(previous + last) ? 2 : 0;
  }

  // The text that `token` adds after the token `previous` (null: at the beginning).
  piece(token, previous) {
    if (this.unit === "char") return token;
    if (token === this.endOfSentence) return "\n";
    return this.#touches(token, previous) ? token : ` ${token}`;
  }

  #touches(token, previous) {
    if (previous === null || previous === this.endOfSentence) return true;
    if (this.rule === "whitespace") return false;
    return NO_SPACE_BEFORE.has(token) || NO_SPACE_AFTER.has(previous);
  }
}

function lastCodePoints(text, count) {
  let start = text.length;
  for (; count > 0 && start > 0; count--) start -= text.codePointAt(start - 2) > 0xffff ? 2 : 1;
  return text.slice(start);
}
