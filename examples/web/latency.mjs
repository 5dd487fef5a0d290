// Latency from a keystroke to its suggestions: the last one, the median, and the recent ones as bars.

const KEPT = 200;
const DRAWN = 48;

export class Latency {
  #elements;
  #times = [];

  // `elements`: { last, median, model, ran, history }.
  constructor(elements) {
    this.#elements = elements;
  }

  // Adds a keystroke: total milliseconds, the model's share of them, and its number of tokens.
  add(milliseconds, { milliseconds: computing, tokensRun }) {
    this.#times = [...this.#times, milliseconds].slice(-KEPT);
    const { last, median, model, ran, history } = this.#elements;
    last.textContent = shown(milliseconds);
    median.textContent = shown(middle(this.#times));
    model.textContent = shown(computing);
    ran.textContent = `model, ${tokensRun} ${tokensRun === 1 ? "token" : "tokens"}`;
    history.setAttribute(
      "aria-label",
      `The latest keystrokes, ${this.#times.length} so far: median ${median.textContent}`,
    );
    this.#draw(history);
  }

  #draw(history) {
    const drawn = this.#times.slice(-DRAWN);
    while (history.children.length < drawn.length) history.append(document.createElement("i"));
    const top = Math.max(...drawn);
    drawn.forEach((time, index) => (history.children[index].style.height = `${(100 * time) / top}%`));
  }
}

const shown = (milliseconds) => `${milliseconds.toFixed(1)} ms`;

function middle(times) {
  const sorted = [...times].sort((one, other) => one - other);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}
