// Probabilities of logits. The exponential function of the engine would take half of the time of a search.

const STEPS = 64; // entries of the table for a factor of e
const LOWEST = -100; // float32 has no number for the exponential of less
const TABLE = Float64Array.from({ length: 1 - LOWEST * STEPS }, (_, place) => Math.exp(-place / STEPS));

// float32 [vocabulary]: the softmax of `logits` divided by a temperature above 0.
export function softmax(logits, temperature) {
  const shares = new Float32Array(logits.length);
  let highest = -Infinity;
  for (let id = 0; id < logits.length; id++) if (logits[id] > highest) highest = logits[id];
  let total = 0;
  for (let id = 0; id < logits.length; id++) {
    const weight = exponential((logits[id] - highest) / temperature);
    shares[id] = weight;
    total += weight;
  }
  const scale = 1 / total;
  for (let id = 0; id < logits.length; id++) shares[id] *= scale;
  return shares;
}

// e to the power of a number up to 0, within 2e-10 of it: an entry of the table times a polynomial of the rest.
function exponential(power) {
  if (power < LOWEST) return 0;
  const place = (0.5 - power * STEPS) | 0;
  const rest = power + place / STEPS;
  return TABLE[place] * (1 + rest * (1 + rest * (1 / 2 + rest / 6)));
}
