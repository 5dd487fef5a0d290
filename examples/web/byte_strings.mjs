// Byte strings: a character from U+0000 to U+00FF for each byte. They compare, join and match as bytes do.
import { bytesOf } from "./byte_pairs.mjs";

const encoder = new TextEncoder();
const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
const strict = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true });

const joined = (bytes) => Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
const apart = (data) => Uint8Array.from(data, (character) => character.charCodeAt(0));

// The bytes of a token of rule `bpe`.
export const bytesOfToken = (token) => joined(bytesOf(token));

// The bytes of a text in UTF-8.
export const bytesOfText = (text) => joined(encoder.encode(text));

// The text of these bytes, with U+FFFD for those that are no UTF-8.
export const textOf = (data) => utf8.decode(apart(data));

// Whether these bytes are UTF-8.
export function isText(data) {
  if (/^[\0-\x7f]*$/.test(data)) return true;
  try {
    strict.decode(apart(data));
    return true;
  } catch {
    return false;
  }
}
