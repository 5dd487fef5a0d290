// Probabilities of logits, the most probable tokens, and sampling, with a temperature as in Python.
//
// The temperature divides the logits before the softmax. At 0 the most probable token has probability 1.

// The `count` most probable of the tokens `ids` (null: all but those in the list `excluded`), highest first, ties by id:
// { id, probability }. Probabilities are shares among `ids`, or among all tokens, `excluded` too.
export function likeliest(logits, { count, ids = null, excluded = [], temperature = 1 }) {
  const best = largest(logits, ids ?? logits.keys(), count, excluded);
  if (temperature === 0) return best.map((id, place) => ({ id, probability: place === 0 ? 1 : 0 }));
  const highest = maximum(logits, ids);
  const weight = (id) => Math.exp((logits[id] - highest) / temperature);
  let total = 0;
  for (const id of ids ?? logits.keys()) total += weight(id);
  return best.map((id) => ({ id, probability: weight(id) / total }));
}

// Samples one of the tokens `ids` (null: all but those in the list `excluded`), in the order of their ids; takes one
// number from `random` unless temperature is 0.
export function draw(logits, { temperature, random, ids = null, excluded = [] }) {
  if (temperature === 0) return largest(logits, ids ?? logits.keys(), 1, excluded)[0];
  const among = Array.from(ids ?? logits.keys()).filter((id) => !excluded.includes(id));
  const highest = maximum(logits, among);
  let total = 0;
  const sums = among.map((id) => (total += Math.exp((logits[id] - highest) / temperature)));
  const drawn = random.next() * total;
  const place = sums.findIndex((sum) => sum > drawn);
  return among[place === -1 ? among.length - 1 : place];
}

function maximum(logits, ids) {
  let highest = -Infinity;
  for (const id of ids ?? logits.keys()) if (logits[id] > highest) highest = logits[id];
  return highest;
}

// The `count` ids with the largest logits, largest first; equal ones in the order of `ids`.
function largest(logits, ids, count, excluded) {
  const best = [];
  for (const id of ids) {
    if (excluded.includes(id) || (best.length === count && logits[id] <= logits[best[count - 1]])) continue;
    let place = best.length;
    while (place > 0 && logits[id] > logits[best[place - 1]]) place--;
    best.splice(place, 0, id);
    if (best.length > count) best.pop();
  }
  return best;
}
