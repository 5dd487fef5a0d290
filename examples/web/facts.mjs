// The facts about the model, as a list of terms and descriptions.

const UNITS = { word: "words", char: "characters", subword: "parts of words" };

// `list` is a dl; `hash` shows the hash and whether it was checked.
export function showFacts(list, hash, facts) {
  list.replaceChildren(...entries(facts).map(([term, description]) => entry(term, description)));
  const unchecked = "not checked: browsers can do that only over https or on localhost";
  hash.textContent = `SHA-256 ${facts.sha256.slice(0, 16)}…, ${facts.hashChecked ? "checked" : unchecked}`;
}

function entries({ name, size, model, precision, training, words, tokenization }) {
  const perplexity = training.test_perplexity ?? training.valid_perplexity;
  const split = training.test_perplexity === undefined ? "valid" : "test";
  return [
    ["file", name],
    ["trained on", training.corpus],
    ["vocabulary", `${words.toLocaleString("en")} ${UNITS[tokenization.unit]}`],
    [`${split} perplexity`, perplexity < 1e6 ? perplexity.toFixed(1) : perplexity?.toExponential(1)],
    ["network", `${model.cell.toUpperCase()} ${model.layer_sizes.join(", ")}`],
    ["precision", precision],
    ["size", `${(size / 1e6).toFixed(1)} MB`],
  ].filter(([, description]) => description !== undefined);
}

function entry(term, description) {
  const row = document.createElement("div");
  const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
  dt.textContent = term;
  dd.textContent = description;
  row.append(dt, dd);
  return row;
}
