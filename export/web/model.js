// The model behind the page: the files beside it, onnxruntime-web, and one call from bytes and names to a similarity grid.

// what the page runs on, in the order in which it is tried
const PROVIDERS = {
  webgpu: { name: "WebGPU", runtime: "./ort/ort.webgpu.bundle.min.mjs", label: () => "WebGPU" },
  wasm: {
    name: "WebAssembly",
    runtime: "./ort/ort.wasm.bundle.min.mjs",
    label: (threads) => `WebAssembly, ${threads} thread${threads === 1 ? "" : "s"}`,
  },
};
const MOST_THREADS = 4;
const NEAR = 3;

/**
 * Load site.json, the vocabulary and the model, and check that it computes here what it did where it was written.
 * @param {{provider?: string, onProgress?: (share: number) => void}} options provider: "webgpu" or "wasm" and no other
 * @returns {Promise<Model>}
 * @throws {Error} in words: a file is missing, files of two models are mixed, no provider runs the model
 */
export async function load({ provider, onProgress = () => {} } = {}) {
  if (provider && !(provider in PROVIDERS)) {
    throw new Error(`Unknown provider “${provider}”: this page knows ${Object.keys(PROVIDERS).join(" and ")}.`);
  }
  const site = await json("site.json");
  const [listed, numbers] = await Promise.all([json("vocabulary.json"), fetched("vocabulary.bin")]);
  if (listed.tower !== site.model.model.text) throw new Error("The vocabulary was made by the text tower of another model.");
  if (numbers.length !== 4 * listed.names.length * listed.embed) throw new Error("vocabulary.bin is not as long as vocabulary.json says.");
  const vocabulary = { ...listed, embeddings: new Float32Array(numbers.buffer) };
  const bytes = await fetched("model.onnx", onProgress);
  const notes = [];
  for (const name of provider ? [provider] : await candidates()) {
    try {
      const model = new Model(site, vocabulary, await start(name, bytes), notes);
      await model.check();
      return model;
    } catch (error) {
      notes.push(`${PROVIDERS[name].name} is not used: ${error.message}`);
    }
  }
  throw new Error(notes.join(" "));
}

/**
 * One loaded model.
 *   provider    what it runs on, in words
 *   notes       what was tried before, and why it is not used
 *   deviation   its largest difference from the right answer in `check`
 */
export class Model {
  #session;
  #ort;
  #queue = Promise.resolve();
  #rows;

  constructor(site, vocabulary, { session, ort, label }, notes) {
    Object.assign(this, { site, vocabulary, provider: label, notes, deviation: NaN });
    [this.#session, this.#ort] = [session, ort];
    this.#rows = new Map(vocabulary.names.map((name, row) => [plain(name), row]));
  }

  /** Runs the model once on a known picture. A provider can be wrong without a word, on some GPUs: then this throws. */
  async check() {
    const { names, similarity: right, tolerance } = this.site.check;
    const { similarity: found } = await this.locate(knownPicture(this.frame), names);
    this.deviation = Math.max(...right.map((value, i) => Math.abs(value - found[i])));
    // NaN is not within it either
    if (!(found.length === right.length && this.deviation <= tolerance)) {
      throw new Error(`it computes something else than it should, off by ${this.deviation.toPrecision(1)} where ${tolerance} is allowed.`);
    }
  }

  /** [height, width] of the pictures that go in. */
  get frame() {
    return this.site.model.input.frame;
  }

  /** Whether the vocabulary has this name, whatever its case and spaces. */
  knows(name) {
    return this.#rows.has(plain(name));
  }

  /** Up to three names of the vocabulary near a name: spelled alike, or sharing a beginning. */
  near(name) {
    const wanted = plain(name);
    const scored = [...this.#rows.keys()].map((known) => [distance(wanted, known), known]);
    const alike = scored.filter(([cost, known]) => cost <= Math.max(known.length, wanted.length) * 0.4).sort((a, b) => a[0] - b[0]);
    const akin = scored.filter(([, known]) => known.split(" ").some((word) => word.length > 3 && wanted.startsWith(word.slice(0, 4))));
    return [...new Set([...alike, ...akin].map(([, known]) => known))].slice(0, NEAR);
  }

  /**
   * The similarity of every patch with every name.
   * @param {Uint8Array | Uint8ClampedArray} bytes the picture at the frame's size, row by row: RGB, or RGBA whose alpha is not read
   * @param {string[]} names of the vocabulary
   * @returns {Promise<{similarity: Float32Array, shape: number[], milliseconds: number, provider: string}>} similarity [T, h, w], flat
   * @throws {Error} in words: bytes of another size, no names, a name that is not in the vocabulary
   */
  locate(bytes, names) {
    const inputs = this.#inputs(bytes, names);
    // a session runs one picture at a time
    const answer = this.#queue.then(() => this.#run(inputs));
    this.#queue = answer.catch(() => {});
    return answer;
  }

  #inputs(bytes, names) {
    const [high, wide] = this.frame;
    if (!names.length) throw new Error("names must hold at least one name, got none.");
    const unknown = names.filter((name) => !this.knows(name));
    if (unknown.length) throw new Error(unknown.map((name) => this.tellUnknown(name)).join(" "));
    const embed = this.vocabulary.embed;
    const rows = names.map((name) => this.#rows.get(plain(name)) * embed);
    const texts = Float32Array.from(rows.flatMap((row) => [...this.vocabulary.embeddings.subarray(row, row + embed)]));
    return {
      frames: new this.#ort.Tensor("uint8", rgb(bytes, high, wide), [1, high, wide, 3]),
      text_embeddings: new this.#ort.Tensor("float32", texts, [names.length, embed]),
    };
  }

  async #run(inputs) {
    const start = performance.now();
    const { similarity } = await this.#session.run(inputs);
    const milliseconds = performance.now() - start;
    return { similarity: similarity.data, shape: similarity.dims.slice(1), milliseconds, provider: this.provider };
  }

  /** What to say of a name that is not in the vocabulary. */
  tellUnknown(name) {
    const near = this.near(name);
    const guess = near.length ? ` Near it: ${near.join(", ")}.` : "";
    return `“${name}” is not among the ${this.vocabulary.names.length} names of this model.${guess}`;
  }
}

/** A name without the differences that do not matter: case, and spaces around and in a row. */
export function plain(name) {
  return name.trim().toLowerCase().replace(/\s+/g, " ");
}

function rgb(bytes, high, wide) {
  const pixels = high * wide;
  if (bytes.length === 3 * pixels) return Uint8Array.from(bytes);
  if (bytes.length !== 4 * pixels) {
    throw new Error(`The picture must be ${wide} x ${high} pixels of 3 (RGB) or 4 bytes (RGBA), got ${bytes.length} bytes.`);
  }
  const packed = new Uint8Array(3 * pixels);
  for (let i = 0; i < pixels; i++) packed.set(bytes.subarray(4 * i, 4 * i + 3), 3 * i);
  return packed;
}

/** The picture that a site's check is about; `_check` in fastloc's web.py makes the same. */
function knownPicture([high, wide]) {
  return Uint8Array.from({ length: high * wide * 3 }, (_, i) => Math.floor((i * 7919) / 8) % 256);
}

/** WebGPU only on a real GPU: in software it is far slower than WebAssembly. */
async function candidates() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return adapter && !adapter.info?.isFallbackAdapter ? ["webgpu", "wasm"] : ["wasm"];
}

async function start(name, bytes) {
  const { runtime, label } = PROVIDERS[name];
  const ort = await import(runtime);
  // threads share memory, which browsers allow on cross-origin isolated pages alone
  const threads = globalThis.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, MOST_THREADS) : 1;
  ort.env.wasm.numThreads = threads;
  const session = await ort.InferenceSession.create(bytes, { executionProviders: [name] });
  return { session, ort, label: label(threads) };
}

async function json(file) {
  const text = new TextDecoder().decode(await fetched(file));
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`${file} is damaged: it is not JSON.`);
  }
}

async function fetched(file, onProgress = () => {}) {
  const response = await fetch(file).catch((error) => {
    throw new Error(`${file} could not be fetched (${error.message}).`);
  });
  if (!response.ok) throw new Error(`${file} could not be fetched (HTTP ${response.status}).`);
  const total = Number(response.headers.get("content-length"));
  const parts = [];
  let size = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    size += value.length;
    if (total) onProgress(Math.min(size / total, 1));
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** Levenshtein's distance. */
function distance(a, b) {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] !== b[j - 1]));
    row = next;
  }
  return row[b.length];
}
