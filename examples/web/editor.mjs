// The text area: the text before the caret, and insertions there.

export class Editor {
  #area;
  #spaceAt = -1; // the end of a space that was inserted, not typed

  constructor(area) {
    this.#area = area;
  }

  get before() {
    return this.#area.value.slice(0, this.#area.selectionStart);
  }

  get atEnd() {
    const { selectionStart, selectionEnd, value } = this.#area;
    return selectionStart === value.length && selectionEnd === value.length;
  }

  // Inserts `text` at the caret; it replaces the -start UTF-16 units before it.
  put(text, start = 0) {
    const { selectionStart, selectionEnd } = this.#area;
    this.#area.setRangeText(text, Math.max(0, selectionStart + start), selectionEnd, "end");
    if (this.atEnd) this.#area.scrollTop = this.#area.scrollHeight;
  }

  // Inserts a token, and a space after it if the next token needs one. `touches`: the token follows the text before
  // without a space, so a space that was inserted there is removed.
  putToken(text, { start, touches, spaceAfter }) {
    const drops = touches && this.#area.selectionStart === this.#spaceAt && this.before.endsWith(" ");
    this.put(spaceAfter ? `${text} ` : text, drops ? start - 1 : start);
    this.#spaceAt = spaceAfter ? this.#area.selectionStart : -1;
  }
}
