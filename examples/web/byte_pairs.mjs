// Byte-pair encoding, the rule `bpe`: text is cut into pieces, and the bytes of a piece are merged pair by pair.
//
// Bytes are written as characters, in the alphabet of GPT-2: those that are printable in Latin-1 stand for themselves,
// the others, in order, are U+0100, U+0101, ... A space is `Ġ`, the newline `Ċ`.
import { ArtifactError } from "./errors.mjs";

const CACHED_PIECES = 1 << 16;
const LONGEST_PIECE = 4 * 66; // bytes: a space, 32 letters, an apostrophe, 32 letters
const NONE = 0x7fffffff; // the rank of neighbours that no merge joins

const isPrintable = (byte) => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad);

// Index = byte: its character.
export const BYTE_TOKENS = byteTokens();
const BYTES = new Map(BYTE_TOKENS.map((character, byte) => [character, byte]));

const LETTERS = "A-Za-z\\u0080-\\u{10ffff}";
export const MARKS = "!-\\/:-@\\[-`\\{-~";
const CONTROLS = "\\x00-\\x09\\x0b-\\x1f\\x7f";
const PIECE = new RegExp(
  ` ?[${LETTERS}]{1,32}(?:'[${LETTERS}]{1,32})?| ?[0-9]{1,32}| ?[${MARKS}]{1,32}|\\n` +
    `| {1,32}(?![^ \\n${CONTROLS}])|[${CONTROLS}]{1,32}`,
  "gu",
);
const IS_CONTROL = new RegExp(`^(?:\\n|[${CONTROLS}]+)$`);
const IS_LETTERS = new RegExp(`^ ?[${LETTERS}]+$`, "u");
const SURROGATES = /[\ud800-\udfff]/gu; // matches halves of pairs only

const encoder = new TextEncoder();

function byteTokens() {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(isPrintable(byte) ? byte : next++));
}

// The bytes of a token, as an array of numbers; a character outside the alphabet is a question mark.
export const bytesOf = (token) => Array.from(token, (character) => BYTES.get(character) ?? 0x3f);

// `text` with U+FFFD for every half of a surrogate pair, which has no bytes.
export const unicodeText = (text) => text.replace(SURROGATES, "\ufffd");

const pieces = (text) => unicodeText(text).match(PIECE) ?? [];

// Tokens of text by a list of merges; recent pieces are kept with their tokens.
export class BytePairs {
  #tokens = [...BYTE_TOKENS]; // a token's index is its number here; the bytes have their own
  #merges = []; // left -> (right -> the merge's rank), by these numbers
  #results = []; // rank -> number of the token that the merge makes
  #found = new Map();
  #bytes = new Uint8Array(LONGEST_PIECE);
  #numbers = new Int32Array(LONGEST_PIECE); // the tokens of the piece being merged
  #ranks = new Int32Array(LONGEST_PIECE); // of each of them with its right neighbour

  // `merges`: `left right` each, the first to apply first. Throws an ArtifactError unless each joins two tokens that are
  // there before it; none makes a token of the list `specials`.
  constructor(merges, specials) {
    const known = new Map(BYTE_TOKENS.map((token, byte) => [token, byte]));
    for (const token of specials) known.delete(token);
    merges.forEach((merge, rank) => {
      const [left, right, ...others] = merge.split(" ");
      const fits = known.has(left) && known.has(right) && others.length === 0 && !specials.includes(left + right);
      if (!fits || this.#rank(known.get(left), known.get(right)) !== NONE) {
        throw new ArtifactError(
          `merge ${rank + 1} of its tokenization is ${JSON.stringify(merge)}, expected two tokens with a space between ` +
            "them, each a byte or the result of a merge before it, no newline, no pair twice",
        );
      }
      if (!known.has(left + right)) known.set(left + right, this.#tokens.push(left + right) - 1);
      (this.#merges[known.get(left)] ??= new Map()).set(known.get(right), rank);
      this.#results.push(known.get(left + right));
    });
  }

  // The tokens of a text, in the byte alphabet.
  tokens(text) {
    return this.#tokensOf(pieces(text));
  }

  // The tokens of a text without its last piece, which further text may make longer, and that piece as text: empty after
  // a newline or other controls. A space at the end belongs to the piece that follows it.
  splitLastPiece(text) {
    const before = pieces(text);
    let last = before.pop() ?? "";
    if (/[^ ]/u.test(last) && !IS_CONTROL.test(last)) {
      if (last === "'" && IS_LETTERS.test(before.at(-1) ?? "")) last = before.pop() + last;
    } else if (last.endsWith(" ")) {
      if (last.length > 1) before.push(last.slice(0, -1));
      last = " ";
    } else {
      if (last !== "") before.push(last);
      last = "";
    }
    return { tokens: this.#tokensOf(before), last };
  }

  // Whether a piece of these tokens' bytes is split into these tokens; no piece has more bytes than LONGEST_PIECE.
  isSubword(tokens) {
    const bytes = tokens.flatMap((token) => bytesOf(token));
    if (bytes.length > LONGEST_PIECE) return false;
    this.#bytes.set(bytes);
    const found = this.#merged(bytes.length);
    return found.length === tokens.length && found.every((token, place) => token === tokens[place]);
  }

  #tokensOf(found) {
    const tokens = [];
    for (const piece of found) {
      for (const token of this.#found.get(piece) ?? this.#remembered(piece)) tokens.push(token);
    }
    return tokens;
  }

  #remembered(piece) {
    if (this.#found.size >= CACHED_PIECES) this.#found.clear();
    const tokens = this.#merged(encoder.encodeInto(piece, this.#bytes).written);
    this.#found.set(piece, tokens);
    return tokens;
  }

  // Joins the two neighbours of the lowest rank among the first `size` bytes, the leftmost ones first, until none are in
  // the list.
  #merged(size) {
    const [numbers, ranks] = [this.#numbers, this.#ranks];
    for (let at = 0; at < size; at++) numbers[at] = this.#bytes[at];
    for (let at = 0; at < size; at++) this.#rankAt(at, size);
    for (let at = lowest(ranks, size); ranks[at] !== NONE; at = lowest(ranks, size)) {
      numbers[at] = this.#results[ranks[at]];
      size--;
      removeAt(numbers, at + 1, size);
      removeAt(ranks, at + 1, size);
      if (at > 0) this.#rankAt(at - 1, size);
      this.#rankAt(at, size);
    }
    const tokens = [];
    for (let at = 0; at < size; at++) tokens.push(this.#tokens[numbers[at]]);
    return tokens;
  }

  #rankAt(at, size) {
    this.#ranks[at] = at + 1 < size ? this.#rank(this.#numbers[at], this.#numbers[at + 1]) : NONE;
  }

  #rank(left, right) {
    return this.#merges[left]?.get(right) ?? NONE;
  }
}

// Moves the entries after `place` to the left; `size` of them are left then.
function removeAt(entries, place, size) {
  for (let at = place; at < size; at++) entries[at] = entries[at + 1];
}

// The place of the lowest of the first `size` ranks, the leftmost one of equal ones.
function lowest(ranks, size) {
  let found = 0;
  for (let at = 1; at < size; at++) if (ranks[at] < ranks[found]) found = at;
  return found;
}
