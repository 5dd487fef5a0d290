// A heap: the value with the highest priority comes first, of equal ones the oldest.

const isBefore = (one, other) =>
  one.priority > other.priority || (one.priority === other.priority && one.serial < other.serial);

export class Heap {
  #entries = []; // each before those at twice its place plus 1 and 2
  #serial = 0;

  // The priority of the first value; 0 if there is none.
  get highest() {
    return this.#entries[0]?.priority ?? 0;
  }

  // The sum of all priorities.
  get total() {
    return this.#entries.reduce((sum, { priority }) => sum + priority, 0);
  }

  push(priority, value) {
    this.#entries.push({ priority, serial: this.#serial++, value });
    this.#rise(this.#entries.length - 1);
  }

  // Removes the first value and returns it.
  pop() {
    const [first] = this.#entries;
    const last = this.#entries.pop();
    if (this.#entries.length > 0) this.#sink(last);
    return first.value;
  }

  #rise(place) {
    const entries = this.#entries;
    const entry = entries[place];
    for (let above; place > 0 && isBefore(entry, entries[(above = (place - 1) >> 1)]); place = above) {
      entries[place] = entries[above];
      entries[above] = entry;
    }
  }

  // Puts an entry in the first place, from which it moves down to its own.
  #sink(entry) {
    const entries = this.#entries;
    let place = 0;
    for (let below = 1; below < entries.length; below = 2 * place + 1) {
      if (below + 1 < entries.length && isBefore(entries[below + 1], entries[below])) below++;
      if (!isBefore(entries[below], entry)) break;
      entries[place] = entries[below];
      place = below;
    }
    entries[place] = entry;
  }
}
