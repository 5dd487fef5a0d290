// The time from a keystroke to its suggestions: node keystrokes.mjs model.onnx text.txt [onnxruntime-web]
//
// Types each line of a text letter by letter, after the line before it. Prints percentiles over all keystrokes, of the
// time and of the processor time, which other programs on the machine change less, and of the latter once code is warm.
import "./telemetry.mjs";
import { readFile } from "node:fs/promises";

import { Artifact } from "../web/artifact.mjs";
import { Autocompletion } from "../web/autocompletion.mjs";
import { Predictor } from "../web/predictor.mjs";

const COUNT = 5;
const WARM = 500; // keystrokes after which engines have compiled nearly all code
const OPTIONS = {
  "onnxruntime-node": { executionProviders: ["cpu"], intraOpNumThreads: 1 },
  "onnxruntime-web": { executionProviders: ["wasm"] },
};

async function main(...given) {
  const [file, textFile, name = "onnxruntime-node"] = given;
  if (textFile === undefined || !(name in OPTIONS)) {
    const found = given.join(" ") || "nothing";
    const expected = `node keystrokes.mjs model.onnx text.txt [${Object.keys(OPTIONS).join(" | ")}]`;
    throw new Error(`found ${found}, expected: ${expected}`);
  }
  const ort = await import(name);
  if (ort.env.wasm) ort.env.wasm.numThreads = 1;
  const artifact = await Artifact.read(await readFile(file), file);
  const autocompletion = new Autocompletion(await Predictor.create(ort, artifact, OPTIONS[name]));
  const { times, cut } = await typed(autocompletion, (await readFile(textFile, "utf-8")).split("\n"));
  const tokens = (autocompletion.tokensRun / times.length).toFixed(1);
  const version = ort.env.versions[name.split("-")[1]];
  console.log(`${name} ${version}: ${times.length} keystrokes, ${tokens} tokens each, ${cut} searches cut`);
  console.log(`  time            ${percentiles(times.map(({ passed }) => passed))}`);
  console.log(`  processor time  ${percentiles(times.map(({ used }) => used))}`);
  if (times.length > WARM) console.log(`  once warm       ${percentiles(times.slice(WARM).map(({ used }) => used))}`);
}

// { times, cut }: the milliseconds of each keystroke, and the number of suggestions that are not exact.
async function typed(autocompletion, lines) {
  const times = [];
  let [before, cut] = ["", 0];
  for (const line of lines) {
    for (let end = 1; end <= line.length; end++) {
      const [start, used] = [performance.now(), process.cpuUsage()];
      await autocompletion.suggestions(before + line.slice(0, end), COUNT);
      const { user, system } = process.cpuUsage(used);
      times.push({ passed: performance.now() - start, used: (user + system) / 1000 });
      cut += Number(!autocompletion.exact);
    }
    before = `${line}\n`;
  }
  if (times.length === 0) throw new Error("the text is empty, expected lines to type");
  return { times, cut };
}

function percentiles(milliseconds) {
  const sorted = milliseconds.sort((one, other) => one - other);
  const at = (percent) => sorted[Math.floor((percent / 100) * (sorted.length - 1))].toFixed(2);
  return [50, 90, 99].map((percent) => `p${percent} ${at(percent)} ms`).join("  ");
}

await main(...process.argv.slice(2)).catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
