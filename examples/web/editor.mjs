// The text area: what stands before the caret, and text put there.

export class Editor {
  #area;
  #spaceAt = -1; // where a space ends that nobody typed

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

  // Puts `text` at the caret, in place of -start units before it.
  put(text, start = 0) {
    const { selectionStart, selectionEnd } = this.#area;
    this.#area.setRangeText(text, Math.max(0, selectionStart + start), selectionEnd, "end");
    if (this.atEnd) this.#area.scrollTop = this.#area.scrollHeight;
  }

  // Puts a token there, with a space after it where the next one wants it. `touches`: nothing stands between the token
  // and what comes before, so that a space which was put there for it goes.
  putToken(text, { start, touches, spaceAfter }) {
    const drops = touches && this.#area.selectionStart === this.#spaceAt && this.before.endsWith(" ");
    this.put(spaceAfter ? `${text} ` : text, drops ? start - 1 : start);
    this.#spaceAt = spaceAfter ? this.#area.selectionStart : -1;
  }
}
