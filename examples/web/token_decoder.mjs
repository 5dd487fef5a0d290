// The text of tokens that come one after the other.
import { bytesOf } from "./byte_pairs.mjs";
import { endsWithSpace } from "./tokenization.mjs";

const LONGEST_CHARACTER = 4;
const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });

// Each piece is the text that its token adds, and never ends within a character: where tokens hold single bytes, a
// character comes with the token that completes it, and bytes that are no UTF-8 become U+FFFD.
export class TokenDecoder {
  #tokenization;
  #previous;
  #partial = []; // the bytes of a character that is not complete; 3 at most

  // Begins after the token `previous`; null at the start of a text and after white space.
  constructor(tokenization, previous = null) {
    this.#tokenization = tokenization;
    this.#previous = previous;
  }

  // Continues `text`, which has these tokens.
  static after(tokenization, text, tokens) {
    return new TokenDecoder(tokenization, endsWithSpace(text) ? null : (tokens.at(-1) ?? null));
  }

  // The text that a token adds.
  add(token) {
    const { text, partial } = this.#read(token);
    this.#partial = partial;
    this.#previous = token;
    return text;
  }

  // The text that a token would add.
  peek(token) {
    return this.#read(token).text;
  }

  // The end of the text: U+FFFD if its last character is not complete.
  finish() {
    const text = utf8.decode(Uint8Array.from(this.#partial));
    this.#partial = [];
    return text;
  }

  #read(token) {
    if (this.#tokenization.unit !== "subword") {
      return { text: this.#tokenization.piece(token, this.#previous), partial: [] };
    }
    const bytes = [...this.#partial, ...bytesOf(token)];
    const end = bytes.length - unfinished(bytes);
    return { text: utf8.decode(Uint8Array.from(bytes.slice(0, end))), partial: bytes.slice(end) };
  }
}

// The number of bytes at the end that begin a character without completing it.
function unfinished(bytes) {
  if (bytes.length === 0 || bytes.at(-1) < 0x80) return 0;
  for (let count = Math.min(LONGEST_CHARACTER - 1, bytes.length); count > 0; count--) {
    if (decoderWaits(bytes.slice(-count))) return count;
  }
  return 0;
}

function decoderWaits(bytes) {
  const text = utf8.decode(Uint8Array.from(bytes), { stream: true });
  utf8.decode(); // forgets them
  return text === "";
}
