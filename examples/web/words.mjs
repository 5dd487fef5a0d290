// The rules that split prose into words, as in runtime/words.py: `words-2`, and `words`, which older artifacts have.

// Python's \w and \s. JavaScript's \w has ASCII letters only, and its \s other spaces.
export const LETTER = String.raw`\p{L}\p{N}_`;
export const SPACE = String.raw`\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000`;
const MARK = String.raw`\p{M}`;
const IS_SPACE = new RegExp(`[${SPACE}]`, "u");
const IS_LETTER_OR_NUMBER = /^[\p{L}\p{N}]/u;

const OPENING = "([{“‘«‹¿¡（「『【";
const CLOSING = new Set(".,;:!?)]}%…\"'»›،؛؟।॥、。，．；：！？）」』】");
const BEFORE_LETTERS = "、。，．；：！？）」』】";
const BEFORE_DIGITS = new Set("$€£¥₹₩₽₪₫฿");
const WRITTEN = { "“": '"', "‘": "'" };
const OPENED = { '"': "“", "'": "‘" };

const INVISIBLE = /[\u00ad\u061c\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]/gu;
const APOSTROPHES = /[’ʼ‘‚‛＇]/gu;
const QUOTES = /[“”„‟＂]/gu;

// Every line end, CR, LF or CRLF, as a newline.
export const withNewlines = (text) => text.replaceAll("\r\n", "\n").replaceAll("\r", "\n");

// `text` in which its tokens occur literally, the end of a sentence as a newline.
function folded(text, endOfSentence) {
  const visible = withNewlines(text).replace(INVISIBLE, "").replaceAll("\u200b", " ").replaceAll("\u2011", "-");
  const plain = visible.replace(APOSTROPHES, "'").replace(QUOTES, '"').normalize("NFC").replaceAll("\u0130", "i");
  const lines = plain.toLowerCase().replaceAll(endOfSentence, "\n").normalize("NFC");
  return lines.replace(/["']+/gu, (quotes, start) => {
    const before = start === 0 ? "(" : Array.from(lines.slice(Math.max(start - 2, 0), start)).at(-1);
    return OPENING.includes(before) || IS_SPACE.test(before) ? quotes.replace(/./gu, (quote) => OPENED[quote]) : quotes;
  });
}

const literal = (characters) => characters.replace(/[[\]]/gu, "\\$&");

function pattern() {
  const opening = literal(OPENING);
  const letters = `[${LETTER}][${LETTER}${MARK}\\u200c\\u200d]*`;
  const joints = String.raw`'.\-/@&+\u00b7\u05be\u05f3\u05f4`;
  const between = `[${joints},:\\u2013](?:(?<=[${joints}])|(?<=\\p{Nd}[,:\\u2013])(?=\\p{Nd}))`;
  const address = `:\\/\\/[^${SPACE}"“‘<>${BEFORE_LETTERS}]*[${LETTER}/${MARK}]`;
  const word = `${letters}(?:${between}${letters})*(?:${address})?`;
  const sign = `(?<![^${SPACE}${opening}])(?:--?|[@#+]|[~.]?\\.?\\/|[~.])(?=[${LETTER}])`;
  const operators = "[\\-=*#~+&|<>\\/\\^][\\-=*#~+&|>\\/\\^]+";
  const extended = `[^${LETTER}${SPACE}${opening}"'][${MARK}\\u{1f3fb}-\\u{1f3ff}\\u{e0020}-\\u{e007f}]*`;
  const emoji = `[\\u{1f1e6}-\\u{1f1ff}]{2}|${extended}(?:\\u200d${extended})*`;
  return `${word}|${sign}${word}|${operators}|${emoji}|[${opening}"']`;
}

function touches(token, previous) {
  if (CLOSING.has(token) || OPENING.includes(previous)) return true;
  if (BEFORE_DIGITS.has(previous)) return isDigit(token);
  return BEFORE_LETTERS.includes(previous) && IS_LETTER_OR_NUMBER.test(token);
}

const isDigit = (token) => /^[\p{Nd}]/u.test(token);

const FIRST_CLOSING = new Set(".,;:!?)]}%…");
const FIRST_OPENING = new Set("([{");

// Rule -> its form of a text, the regular expression of a token, whether no space is between two tokens, and the texts
// of tokens that are written in another way.
export const WORD_RULES = {
  words: {
    folded: (text) => text.toLowerCase(),
    pattern: `[${LETTER}]+(?:['\\u2019.\\-][${LETTER}]+)*|[^${LETTER}${SPACE}]`,
    touches: (token, previous) => FIRST_CLOSING.has(token) || FIRST_OPENING.has(previous),
    written: {},
  },
  "words-2": { folded, pattern: pattern(), touches, written: WRITTEN },
};
