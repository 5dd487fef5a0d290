// The list of suggestions: words with bars, one of them selected. It is a listbox; the focus stays in the text.

const SCALES = [0.1, 0.25, 0.5, 1]; // the probability of a full bar: the first that is large enough
const NAMES = { " ": "space", "\t": "tab" };

export const COUNT = 5;

export class Choices {
  #list;
  #scale;
  #take;
  #shown = [];
  #chosen = 0;

  // `list` and `scale` are elements; `take` is called with the suggestion that was tapped or clicked.
  constructor(list, scale, take) {
    this.#list = list;
    this.#scale = scale;
    this.#take = take;
    // The text keeps the focus, and a phone keeps its keyboard open.
    list.addEventListener("pointerdown", (event) => event.preventDefault());
    list.addEventListener("click", ({ target }) => {
      const row = target.closest("li");
      if (row) this.#take(this.#shown[[...list.children].indexOf(row)]);
    });
  }

  get size() {
    return this.#shown.length;
  }

  // The id of the selected row, or null.
  get chosenId() {
    return this.size ? `suggestion-${this.#chosen + 1}` : null;
  }

  at(place) {
    return this.#shown[place];
  }

  get chosen() {
    return this.#shown[this.#chosen];
  }

  // Moves the selection by some places; false if it would leave the list.
  move(by) {
    const place = this.#chosen + by;
    if (place < 0 || place >= this.size) return false;
    this.#chosen = place;
    this.#mark();
    return true;
  }

  // `suggestions`: { name, special, probability, ... } each; `take` gets the same objects. `exact`: whether no other one
  // is more probable than the last of them.
  show(suggestions, exact) {
    this.#shown = suggestions;
    this.#chosen = 0;
    const top = Math.max(0, ...suggestions.map(({ probability }) => probability));
    const full = SCALES.find((scale) => top <= scale) ?? 1;
    this.#scale.textContent = suggestions.length ? `${exact ? "" : "search cut, "}full bar: ${full * 100} %` : "";
    while (this.#list.children.length > suggestions.length) this.#list.lastChild.remove();
    while (this.#list.children.length < suggestions.length) this.#list.append(newRow(this.#list.children.length + 1));
    suggestions.forEach((suggestion, index) => fill(this.#list.children[index], suggestion, full));
    this.#mark();
  }

  #mark() {
    [...this.#list.children].forEach((row, index) => row.setAttribute("aria-selected", String(index === this.#chosen)));
  }
}

// How a suggestion is shown: { name, special }; `special` if the name is a description.
export function shownToken(text, { unit }) {
  const isBlank = unit === "char" && text.trim() === "";
  return { name: isBlank ? (NAMES[text] ?? JSON.stringify(text)) : text, special: isBlank };
}

export const percent = (share) => `${(100 * share).toFixed(2)} %`;

function newRow(number) {
  const row = document.createElement("li");
  row.id = `suggestion-${number}`;
  row.setAttribute("role", "option");
  const [place, word, share, track] = ["number", "word", "share", "track"].map(newPart);
  place.textContent = number;
  track.append(newPart("bar"));
  row.append(place, word, share, track);
  return row;
}

function newPart(name) {
  const part = document.createElement("span");
  part.className = name;
  return part;
}

function fill(row, { name, special, probability }, full) {
  const word = row.querySelector(".word");
  word.textContent = name;
  word.classList.toggle("special", special);
  row.querySelector(".share").textContent = percent(probability);
  row.querySelector(".bar").style.transform = `translateX(calc(max(2px, ${(100 * probability) / full}%) - 100%))`;
  row.dataset.probability = probability;
  row.setAttribute("aria-label", `${name}, ${percent(probability)}`);
}
