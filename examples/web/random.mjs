// Random numbers by a seed: those of numpy's default_rng (its seed sequence and PCG64), so that a seed writes the same
// text here and in Python. See https://numpy.org/doc/stable/reference/random/bit_generators/pcg64.html and
// https://www.pcg-random.org.

const POOL = 4;
const MASK_64 = (1n << 64n) - 1n;
const MASK_128 = (1n << 128n) - 1n;
const MULTIPLIER = 0x2360ed051fc65da44385df649fccf645n;

export class SeededRandom {
  #state = 0n;
  #increment;

  // `seed`: an integer from 0 to Number.MAX_SAFE_INTEGER.
  constructor(seed) {
    const [high, low, sequenceHigh, sequenceLow] = words64(mixed(words32(seed)), 4);
    this.#increment = ((((sequenceHigh << 64n) | sequenceLow) << 1n) | 1n) & MASK_128;
    this.#step();
    this.#state += (high << 64n) | low;
    this.#step();
  }

  // The next number, in [0, 1).
  next() {
    this.#step();
    return Number(this.#output() >> 11n) / 2 ** 53;
  }

  #step() {
    this.#state = (this.#state * MULTIPLIER + this.#increment) & MASK_128;
  }

  // The state's halves folded into one and rotated by its top bits.
  #output() {
    const folded = (this.#state >> 64n) ^ (this.#state & MASK_64);
    const turn = this.#state >> 122n;
    return ((folded >> turn) | (folded << (64n - turn))) & MASK_64;
  }
}

// Numbers without a seed.
export class UnseededRandom {
  next() {
    return Math.random();
  }
}

function words32(seed) {
  if (!Number.isSafeInteger(seed) || seed < 0) throw new RangeError(`the seed is ${seed}, expected 0 or more`);
  return seed < 2 ** 32 ? [seed] : [seed % 2 ** 32, Math.floor(seed / 2 ** 32)];
}

// A hash whose constant changes at each call.
function hasher(constant, factor) {
  return (value) => {
    const hashed = value ^ constant;
    constant = Math.imul(constant, factor);
    const multiplied = Math.imul(hashed, constant);
    return (multiplied ^ (multiplied >>> 16)) >>> 0;
  };
}

function mix(one, other) {
  const value = (Math.imul(0xca01f9dd, one) - Math.imul(0x4973f715, other)) | 0;
  return (value ^ (value >>> 16)) >>> 0;
}

// The seed's words spread over a pool of four: each of them changes every word of it.
function mixed(words) {
  const hash = hasher(0x43b0d7e5, 0x931e8875);
  const pool = Array.from({ length: POOL }, (_, place) => hash(words[place] ?? 0));
  for (let from = 0; from < POOL; from++) {
    for (let to = 0; to < POOL; to++) if (from !== to) pool[to] = mix(pool[to], hash(pool[from]));
  }
  return pool;
}

// `count` words of 64 bits, the low half of each first.
function words64(pool, count) {
  const hash = hasher(0x8b51f9dd, 0x58f38ded);
  const halves = Array.from({ length: 2 * count }, (_, place) => BigInt(hash(pool[place % POOL])));
  return Array.from({ length: count }, (_, place) => halves[2 * place] | (halves[2 * place + 1] << 32n));
}
