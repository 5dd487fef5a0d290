// The page: shows suggestions for the typed text, inserts accepted ones, and lets the model generate text.
import { Choices, COUNT, percent, shownToken } from "./choices.mjs";
import { Editor } from "./editor.mjs";
import { Engine } from "./engine.mjs";
import { showFacts } from "./facts.mjs";
import { Latency } from "./latency.mjs";
import { keepOffline } from "./offline.mjs";
import { Tokenization } from "./tokenization.mjs";

const DEFAULT_MODEL = "model.onnx";
const MOST_WRITTEN = 60; // tokens
const WRITING_PAUSE_MS = 60; // slow enough to read along
const TITLES = { word: "Next word", char: "Next character", subword: "Next word" };
const SPEAKING_PAUSE_MS = 700; // for screen readers, once typing pauses

const element = (id) => document.getElementById(id);
const originOf = (path) => {
  try {
    return new URL(path, location.href).origin;
  } catch {
    return null; // not a valid address
  }
};
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

class Page {
  #area = element("text");
  #button = element("write");
  #editor = new Editor(this.#area);
  #engine = new Engine();
  #choices = new Choices(element("suggestions"), element("scale"), (taken) => this.#take(taken));
  #latency = new Latency({
    last: element("last"),
    median: element("median"),
    model: element("model-time"),
    ran: element("model-ran"),
    history: element("history"),
  });
  #tokenization = null; // of the open model, or null
  #asking = false;
  #asked = ""; // the text of the last request
  #askAgain = null; // the time of a keystroke during a request
  #dismissed = false;
  #writing = 0; // the number of the text being generated; 0: none
  #written = 0;
  #speaking = 0;

  constructor() {
    this.#area.addEventListener("input", (event) => this.#typed(event));
    this.#area.addEventListener("keydown", (event) => this.#key(event));
    this.#area.addEventListener("pointerdown", () => this.#stop());
    document.addEventListener("selectionchange", () => this.#caretMoved());
    element("temperature").addEventListener("input", () => this.#heated());
    this.#button.addEventListener("click", () => (this.#writing ? this.#stop() : this.#write()));
    element("file").addEventListener("change", ({ target }) => {
      this.#openFile(target.files[0]);
      target.value = ""; // so that the same file can be selected again
    });
    this.#acceptDrops();
    this.#heated();
  }

  get #temperature() {
    return Number(element("temperature").value);
  }

  // An integer, or null.
  get #seed() {
    const { value, validity } = element("seed");
    return value !== "" && validity.valid ? Number(value) : null;
  }

  // Opens the model in the address (?model=PATH), or the one beside the page.
  async openFirst() {
    const named = new URLSearchParams(location.search).get("model");
    const path = named ?? DEFAULT_MODEL;
    const origin = originOf(path);
    if (origin !== location.origin) {
      const found = origin === null ? "is not a valid address" : "is on another site";
      this.#say(`The model ${path} ${found}; expected a path on this site, such as ?model=${DEFAULT_MODEL}.`);
      return;
    }
    await this.#open({ path, name: path.split("/").at(-1), optional: named === null }, path);
  }

  async #openFile(file) {
    if (file) await this.#open({ bytes: await file.arrayBuffer(), name: file.name }, null);
  }

  async #open(source, path) {
    this.#stop();
    document.body.dataset.state = "loading";
    const { placeholder } = this.#area;
    this.#area.placeholder = `Loading ${source.name} …`;
    try {
      const facts = await this.#engine.open(source);
      if (facts === null) this.#hint();
      else this.#opened(facts, path);
    } catch (error) {
      this.#say(error.message);
    }
    this.#area.placeholder = this.#tokenization ? "Begin to type" : placeholder;
    document.body.dataset.state = this.#tokenization ? "ready" : "empty";
  }

  #opened(facts, path) {
    this.#say("");
    showFacts(element("facts"), element("hash"), facts);
    this.#tokenization = new Tokenization(facts.tokenization);
    element("next-title").textContent = TITLES[this.#tokenization.unit];
    this.#area.disabled = this.#button.disabled = false;
    this.#area.focus();
    this.#ask();
    keepOffline(path, element("offline"));
  }

  #hint() {
    element("offline").textContent = `There is no ${DEFAULT_MODEL} beside this page: open a model, or drop one here.`;
  }

  // Shows an error; an empty message hides it.
  #say(message) {
    element("message").hidden = message === "";
    element("message").textContent = message;
  }

  #typed(event) {
    this.#stop();
    this.#dismissed = false;
    this.#ask(event.timeStamp);
  }

  // Suggestions follow the caret; typing has already requested them.
  #caretMoved() {
    const moved = document.activeElement === this.#area && this.#editor.before !== this.#asked;
    if (moved && this.#tokenization && !this.#writing) this.#ask();
  }

  // Requests suggestions. During a request only the latest further one waits.
  async #ask(since = null) {
    if (!this.#tokenization) return;
    this.#asked = this.#editor.before;
    if (this.#asking) {
      this.#askAgain = since ?? this.#askAgain ?? 0;
      return;
    }
    this.#asking = true;
    do {
      this.#askAgain = null;
      await this.#answer(since || null);
      since = this.#askAgain;
    } while (since !== null);
    this.#asking = false;
  }

  async #answer(since) {
    try {
      const answer = await this.#engine.suggest(this.#editor.before, COUNT, this.#temperature);
      if (!this.#writing) this.#show(answer);
      if (since !== null) this.#latency.add(performance.now() - since, answer);
    } catch (error) {
      this.#say(error.message);
    }
  }

  #show({ suggestions, exact }) {
    const named = suggestions.map((found) => ({ ...found, ...shownToken(found.shown, this.#tokenization) }));
    this.#choices.show(named, exact);
    this.#area.removeAttribute("aria-activedescendant");
    element("nothing").hidden = suggestions.length > 0;
    element("nothing").textContent = "No word in the vocabulary begins like this.";
    clearTimeout(this.#speaking);
    this.#speaking = setTimeout(() => this.#speak(), SPEAKING_PAUSE_MS);
  }

  #speak() {
    const all = Array.from({ length: this.#choices.size }, (_, place) => this.#choices.at(place));
    element("live").textContent = all.map(({ name, probability }) => `${name}, ${percent(probability)}`).join("; ");
  }

  #key(event) {
    if (event.isComposing || !this.#tokenization) return;
    if (this.#handles(event)) event.preventDefault();
  }

  // Handles a key for the suggestions; false if the key is for the text.
  #handles({ key, code, altKey, ctrlKey, metaKey, shiftKey }) {
    if (key === "Escape") return this.#escape();
    if (ctrlKey || metaKey || this.#dismissed || this.#choices.size === 0) return false;
    if (altKey) return this.#takeNumber(/^Digit([1-9])$/.exec(code)?.[1]);
    if (key === "Tab" && !shiftKey) return this.#take(this.#choices.chosen);
    if (key === "ArrowDown" && this.#editor.atEnd) return this.#move(1);
    if (key === "ArrowUp" && this.#editor.atEnd) return this.#move(-1);
    return false;
  }

  #escape() {
    this.#dismissed = true;
    this.#area.removeAttribute("aria-activedescendant");
    return this.#stop();
  }

  #move(by) {
    const moved = this.#choices.move(by);
    if (moved) this.#area.setAttribute("aria-activedescendant", this.#choices.chosenId);
    return moved || by > 0;
  }

  #takeNumber(digit) {
    const suggestion = this.#choices.at(digit - 1);
    return suggestion !== undefined && this.#take(suggestion);
  }

  #take({ shown, text, start }) {
    this.#stop();
    const tokenization = this.#tokenization;
    if (tokenization.unit !== "word") this.#editor.put(text);
    else {
      const previous = tokenization.split(this.#editor.before).at(-1) ?? null;
      const begun = start < 0;
      const piece = tokenization.piece(shown, previous);
      const touches = begun || !piece.startsWith(" ");
      const spaceAfter = tokenization.piece("a", shown).startsWith(" ");
      this.#editor.putToken(begun ? text : this.#spaced(piece.replace(/^ /u, ""), touches), {
        start,
        touches: !begun && touches,
        spaceAfter,
      });
    }
    this.#area.focus();
    this.#ask(performance.now());
    return true;
  }

  // Adds a space before a word that follows another word directly.
  #spaced(word, touches) {
    const { before } = this.#editor;
    return touches || before === "" || /\s$/u.test(before) ? word : ` ${word}`;
  }

  #heated() {
    const { value } = element("temperature");
    element("temperature-shown").textContent = Number(value).toFixed(2);
    element("temperature").setAttribute("aria-valuetext", Number(value) === 0 ? "0: always the most probable" : value);
    if (!this.#writing) this.#ask();
  }

  async #write() {
    const text = ++this.#written;
    this.#writing = text;
    this.#button.textContent = "Stop";
    try {
      await this.#writeTokens(text);
    } catch (error) {
      this.#say(error.message);
    }
    if (this.#writing === text) this.#stop();
  }

  async #writeTokens(text) {
    const { before } = this.#editor;
    await this.#engine.begin(before, this.#seed);
    for (let count = 0; count < MOST_WRITTEN; count++) {
      const { piece, ...found } = await this.#engine.write(this.#temperature, COUNT);
      if (this.#writing !== text) return;
      this.#editor.put(piece);
      this.#show(found);
      await pause(WRITING_PAUSE_MS);
      if (this.#writing !== text) return;
    }
  }

  // Stops generating; false if nothing was being generated.
  #stop() {
    const stopped = this.#writing !== 0;
    this.#writing = 0;
    this.#button.textContent = "Write on";
    if (stopped) this.#ask();
    return stopped;
  }

  #acceptDrops() {
    const dropping = (on) => document.body.classList.toggle("dropping", on);
    document.addEventListener("dragover", (event) => {
      event.preventDefault();
      dropping(true);
    });
    document.addEventListener("dragleave", () => dropping(false));
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      dropping(false);
      this.#openFile(event.dataTransfer.files[0]);
    });
  }
}

new Page().openFirst();
