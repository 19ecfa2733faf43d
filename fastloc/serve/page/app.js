// The page: a picture and words go to the service, a heatmap for each word comes back. Scripts may use `window.fastloc`, at the end.

import { spread } from "./spread.js";
import { element, legend, tile } from "./tiles.js";

// long side of a drawn heatmap in pixels
const DRAWN = 560;
// milliseconds until a changed threshold is requested
const CALM = 250;

const at = (id) => document.getElementById(id);
// the picture and its file, the colours of heat, the last answer, and a count of changes, which says that an answer is stale
const now = { file: null, picture: null, colours: null, result: null, change: 0 };

/** Asks the service, and draws its answer or says what is wrong. */
async function answer() {
  const change = ++now.change;
  const texts = words(at("texts").value);
  tell(missing(texts));
  if (!now.picture || !texts.length) {
    draw(null);
    state("ready");
    return;
  }
  state("busy");
  const started = performance.now();
  const found = await located(now.file, texts).catch((error) => error);
  if (change !== now.change) return;
  if (found instanceof Error) {
    tell([found.message]);
    at("status").textContent = "No answer";
    draw(null);
  } else {
    at("status").textContent = `${texts.length} ${texts.length === 1 ? "text" : "texts"} in ${Math.round(performance.now() - started)} ms, way there and back included`;
    draw(found.results[0]);
  }
  state("ready");
}

/** POST /v1/locate. */
async function located(file, texts) {
  const form = new FormData();
  form.append("image", file, file.name || "picture");
  form.append("texts", JSON.stringify(texts));
  form.append("similarity", "true");
  form.append("threshold", at("threshold").value / 100);
  if (at("method").value) form.append("method", at("method").value);
  const response = await fetch("v1/locate", { method: "POST", body: form }).catch(() => null);
  if (!response) throw new Error("The service cannot be reached.");
  if (response.ok) return response.json();
  const refusal = await response.json().catch(() => ({}));
  throw new Error(`The service answers ${response.status}: ${refusal.error ?? response.statusText}`);
}

function missing(texts) {
  const lines = [];
  if (!now.picture) lines.push("There is no picture yet: choose one, drop it on the page, or paste it.");
  if (!texts.length) lines.push("Say what to look for, such as cat.");
  return lines;
}

/** The words of a line, as they were typed, each once. */
function words(line) {
  return [...new Set(line.split(",").map((each) => each.trim()).filter(Boolean))];
}

function draw(result) {
  now.result = result;
  if (!result) return at("tiles").replaceChildren();
  const { picture } = now;
  const scale = Math.min(DRAWN / Math.max(picture.width, picture.height), 1);
  const size = [picture.height, picture.width].map((side) => Math.max(Math.round(side * scale), 1));
  const share = [size[0] / result.picture.height, size[1] / result.picture.width];
  return at("tiles").replaceChildren(...spread(result, size).map((map, t) => {
    const { text, peak, boxes, score, flat } = result.texts[t];
    const top = { x: (peak.x + 0.5) * share[1], y: (peak.y + 0.5) * share[0], similarity: peak.similarity };
    const figure = tile(picture, text, map, size, top, now.colours);
    figure.querySelector(".view").append(...(flat ? [] : boxes.map((box) => outline(box, result.picture))));
    figure.append(element("p", { className: "facts", textContent: facts(peak, boxes, score, flat) }));
    figure.classList.toggle("absent", score !== null && score < 0.5);
    return figure;
  }));
}

function facts(peak, boxes, score, flat) {
  if (flat) return "equally similar everywhere";
  const parts = [`peak ${peak.x}, ${peak.y}`, boxes.length === 1 ? "1 box" : `${boxes.length} boxes`];
  if (score !== null) parts.push(`present ${Math.round(100 * score)}\u00a0%`);
  return parts.join(" · ");
}

function outline(box, { height, width }) {
  const made = element("span", { className: "box" });
  const shares = { left: box.x0 / width, top: box.y0 / height, width: (box.x1 - box.x0) / width, height: (box.y1 - box.y0) / height };
  for (const [side, share] of Object.entries(shares)) made.style[side] = `${100 * share}%`;
  return made;
}

/** Takes a File or Blob as the picture; shows an error where it is none. */
async function take(file) {
  const change = ++now.change;
  const picture = await createImageBitmap(file).catch(() => null);
  // another one was chosen meanwhile
  if (change !== now.change) return;
  if (!picture) {
    tell([`${file.name || "This"} is not a picture that this browser can read${file.type ? ` (its type is ${file.type})` : ""}.`]);
    return;
  }
  Object.assign(now, { file, picture });
  at("name").textContent = file.name || "A pasted picture";
  if (words(at("texts").value).length) await answer();
  else {
    draw(null);
    tell([]);
    at("texts").focus();
  }
}

function takeFirst(files) {
  return files.length ? take(files[0]) : tell(["There is no picture in that: give an image file."]);
}

function state(name) {
  document.documentElement.dataset.state = name;
}

/** Replaces what is wrong, a line each. */
function tell(lines) {
  at("error").replaceChildren(...lines.map((line) => element("p", { textContent: line })));
}

function listen() {
  at("file").addEventListener("change", ({ target }) => target.files.length && take(target.files[0]));
  document.addEventListener("paste", (event) => event.clipboardData.files.length && takeFirst(event.clipboardData.files));
  for (const [name, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      document.body.classList.toggle("dropping", over);
      if (name === "drop") takeFirst(event.dataTransfer.files);
    });
  }
  at("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    answer();
  });
  at("method").addEventListener("change", answer);
  at("opacity").addEventListener("input", ({ target }) => document.documentElement.style.setProperty("--opacity", target.value / 100));
  let calm = 0;
  at("threshold").addEventListener("input", ({ target }) => {
    at("threshold-shown").textContent = `${target.value} %`;
    clearTimeout(calm);
    calm = setTimeout(() => now.result && answer(), CALM);
  });
}

/** What the page has to know, and what runs behind it. */
async function start() {
  listen();
  const [page, { models }] = await Promise.all(["page.json", "v1/models"].map(async (path) => {
    const response = await fetch(path);
    if (!response.ok) throw new Error(`${path} answers ${response.status}`);
    return response.json();
  }));
  now.colours = Uint8Array.from(page.colours.match(/../g), (hex) => parseInt(hex, 16));
  legend(at("legend"), now.colours);
  const [model] = models;
  at("about").textContent = `${model.name}; fastloc ${page.fastloc}.`;
  // the service's own method comes first
  at("method").replaceChildren(...models.map(({ method }) => element("option", { value: method, textContent: method })));
  at("method-row").hidden = models.length < 2;
  at("status").textContent = "Ready";
  state("ready");
}

start().catch((error) => {
  state("failed");
  at("status").textContent = "Not ready";
  tell([`The service does not answer: ${error.message}. Load the page again.`]);
});

/** For scripts and tests: the result that is shown, and the heat of any result as T maps [H, W]. */
window.fastloc = { last: () => now.result, spread };
