// node search.mjs MODULE.wasm STORE.vlc QUERIES.npy ANSWERS.json
// Searches a store with the module and compares with ANSWERS, which is what `vlc query STORE.vlc QUERIES.npy --json` printed.
// Given rows (.npy of int8) in place of a store, compresses them first; then the answers need only overlap.
import { readFileSync } from "node:fs";
import { performance } from "node:perf_hooks";

const [module, store, queriesFile, answersFile] = process.argv.slice(2);
const { instance } = await WebAssembly.instantiate(readFileSync(module), {});
const vlc = instance.exports;
// Made anew for each use: the memory may have grown, and then the old view is of nothing.
const view = (Type, at, count) => new Type(vlc.memory.buffer, at, count);

function checked(found) {
  if (found === 0) throw new Error(new TextDecoder().decode(view(Uint8Array, vlc.vlc_error(), vlc.vlc_error_len())));
  return found;
}

function readNpy(path) {
  const bytes = readFileSync(path);
  const start = 10 + bytes.readUInt16LE(8);
  const header = bytes.toString("latin1", 10, start);
  const shape = header.match(/'descr': '\|i1'.*'shape': \((\d+), (\d+)\)/);
  if (shape === null) throw new Error(`${path}: not a matrix of int8: ${header}`);
  return { rows: +shape[1], dim: +shape[2], values: new Int8Array(bytes.buffer, bytes.byteOffset + start) };
}

function give({ values }) {
  view(Float32Array, vlc.vlc_values(values.length), values.length).set(values);
}

function timed(what, work) {
  const start = performance.now();
  const result = work();
  console.log(`${what}: ${(performance.now() - start).toFixed(0)} ms`);
  return result;
}

const compressed = store.endsWith(".npy");
if (compressed) {
  const rows = readNpy(store);
  give(rows);
  console.log(`${timed("compress", () => checked(vlc.vlc_compress(rows.dim, 0.0833)))} bytes`);
} else {
  const bytes = readFileSync(store);
  view(Uint8Array, vlc.vlc_bytes(bytes.length), bytes.length).set(bytes);
  console.log(`${timed("open and verify", () => checked(vlc.vlc_open()))} rows`);
}

const answers = JSON.parse(readFileSync(answersFile));
const queries = readNpy(queriesFile);
give(queries);
const k = timed(`${queries.rows} queries`, () => checked(vlc.vlc_search(queries.rows, answers.k)));
const ids = view(BigUint64Array, vlc.vlc_ids(), queries.rows * k);
const scores = view(Float32Array, vlc.vlc_scores(), queries.rows * k);

const same = [...ids].filter((id, i) => answers.ids[Math.floor(i / k)].includes(Number(id))).length;
const expected = answers.scores.flat();
const apart = scores.reduce((most, s, i) => Math.max(most, Math.abs(s - expected[i]) / Math.max(1, Math.abs(s))), 0);
console.log(`${same} of ${ids.length} hits are among the answers; scores differ by ${apart.toExponential(1)} of them at most`);
// Sums are rounded otherwise than on another processor, so the last of two near-equal rows may be another one.
const good = compressed ? same > 0.8 * ids.length : same > 0.999 * ids.length && apart < 1e-5;
process.exit(good && ids.length === answers.ids.flat().length ? 0 : 1);
