// The page: a picture and words in, a heatmap for each word out. What scripts may use of it is `window.fastloc`, at the end.

import { heatmaps, minmax, peak, upsample } from "./maps.js";
import { load } from "./model.js";
import { canvas, element, legend, tile } from "./tiles.js";
import { completing, words } from "./words.js";

// long side of a drawn heatmap in pixels
const DRAWN = 560;

const at = (id) => document.getElementById(id);
const [ask, file, prompts, samples, status, tiles] = ["ask", "file", "prompts", "samples", "status", "tiles"].map(at);
// the model once it is loaded, the picture, the colours of heat, and a count of changes, which tells that an answer is stale
const now = { model: null, picture: null, colours: null, change: 0 };

/** Draws the words in the picture, and says what is missing or unknown. */
async function answer() {
  const change = ++now.change;
  const { model, picture } = now;
  if (!model) return;
  const typed = words(prompts.value);
  const known = typed.filter((name) => model.knows(name));
  const complaints = typed.filter((name) => !model.knows(name)).map((name) => model.tellUnknown(name));
  if (!typed.length) complaints.push(`Say what to look for, such as ${model.vocabulary.names[0]}.`);
  if (!picture) complaints.unshift("There is no picture yet: choose one, drop it on the page, or take a sample.");
  tell(complaints);
  if (!picture || !known.length) {
    tiles.replaceChildren();
    return;
  }
  state("busy");
  try {
    const found = await model.locate(framed(picture, model.frame), known);
    if (change !== now.change) return;
    draw(picture, known, found);
    status.textContent = `${counted(known.length, "name")} in ${Math.round(found.milliseconds)} ms on ${found.provider}`;
  } catch (error) {
    tell([...complaints, `The model could not answer: ${error.message}`]);
  } finally {
    if (change === now.change) state("ready");
  }
}

/** The picture stretched to the model's frame, over white: RGBA bytes. */
function framed(picture, [high, wide]) {
  const { context } = canvas(wide, high);
  context.fillStyle = "#fff";
  context.fillRect(0, 0, wide, high);
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, wide, high);
  return context.getImageData(0, 0, wide, high).data;
}

function draw(picture, known, { similarity, shape }) {
  const scale = Math.min(DRAWN / Math.max(picture.width, picture.height), 1);
  const size = [picture.height, picture.width].map((side) => Math.max(Math.round(side * scale), 1));
  const { recipe: { readout }, model: { patch } } = now.model.site.model;
  const [, ...cells] = shape;
  const area = cells[0] * cells[1];
  tiles.replaceChildren(...heatmaps(similarity, shape, size, readout, patch).map((map, i) => {
    const top = peak(map, size);
    const raw = upsample(similarity.subarray(i * area, (i + 1) * area), cells, size);
    // raw similarities have no common 0 and 1
    const shown = readout.order === "none" ? minmax(map) : map;
    return tile(picture, known[i], shown, size, { ...top, similarity: raw[top.index] }, now.colours);
  }));
}

/** Takes a File or Blob as the picture; says so where it is none. */
async function take(blob, name, sample = "") {
  const change = ++now.change;
  const picture = await createImageBitmap(blob).catch(() => null);
  // another one was chosen meanwhile
  if (change !== now.change) return;
  if (!picture) {
    tell([`${name} is not a picture that this browser can read${blob.type ? ` (its type is ${blob.type})` : ""}.`]);
    return;
  }
  now.picture = picture;
  for (const button of samples.children) button.ariaPressed = String(button.dataset.sample === sample);
  await answer();
}

/** The first file of what was chosen, dropped or pasted. */
function takeFirst(files) {
  if (files.length) return take(files[0], files[0].name);
  return tell(["There is no picture in that: give an image file."]);
}

async function takeSample(sample) {
  prompts.value = sample.texts.join(", ");
  const response = await fetch(sample.file).catch(() => null);
  if (!response?.ok) return tell([`The sample ${sample.file} could not be fetched.`]);
  return take(await response.blob(), sample.file, sample.name);
}

function sampleButton(sample) {
  const button = element("button", { type: "button", title: `Sample: ${sample.name}`, ariaPressed: "false" });
  button.dataset.sample = sample.name;
  button.append(element("img", { src: sample.file, alt: `Sample: ${sample.name}` }));
  button.addEventListener("click", () => takeSample(sample));
  return button;
}

function state(name) {
  document.documentElement.dataset.state = name;
}

/** Replaces what is wrong, a line each. */
function tell(lines) {
  at("error").replaceChildren(...lines.map((line) => element("p", { textContent: line })));
}

function counted(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

function listen() {
  file.addEventListener("change", () => takeFirst(file.files));
  document.addEventListener("paste", (event) => event.clipboardData.files.length && takeFirst(event.clipboardData.files));
  for (const [name, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      document.body.classList.toggle("dropping", over);
      if (name === "drop") takeFirst(event.dataTransfer.files);
    });
  }
  completing(prompts, at("names"), () => now.model?.vocabulary.names ?? [], answer);
  ask.addEventListener("submit", (event) => {
    event.preventDefault();
    answer();
  });
  at("opacity").addEventListener("input", ({ target }) => document.documentElement.style.setProperty("--opacity", target.value / 100));
}

/** Says what the page knows of its model. */
function introduce({ site, vocabulary, provider, notes, deviation }) {
  const { model, recipe, input, dtype, version } = site.model;
  at("hint").textContent = `${counted(vocabulary.names.length, "known name")}, separated by commas. ${site.note}`.trim();
  at("about").textContent = [
    `${recipe.name} on ${model.name}, ${input.size.join(" × ")} pixels, ${dtype}; fastloc ${version}, onnxruntime-web ${site.runtime}.`,
    `Checked here: off by ${deviation.toExponential(0)} from PyTorch.`,
    ...notes,
  ].join(" ");
  status.textContent = `Ready on ${provider}`;
  now.colours = Uint8Array.from(site.colours.match(/../g), (hex) => parseInt(hex, 16));
  legend(at("legend"), now.colours);
  samples.replaceChildren(...site.samples.map(sampleButton));
}

async function start() {
  state("loading");
  listen();
  status.textContent = "Loading the model …";
  const provider = new URLSearchParams(location.search).get("provider") || undefined;
  const model = await load({ provider, onProgress: (share) => (at("progress").value = share) });
  introduce(model);
  at("progress").hidden = true;
  at("find").disabled = false;
  now.model = model;
  if (now.picture) await answer();
  else if (model.site.samples.length) await takeSample(model.site.samples[0]);
  state("ready");
  return model;
}

const ready = start();
ready.catch((error) => {
  state("failed");
  at("progress").hidden = true;
  status.textContent = "Not ready";
  tell([`The model could not be loaded: ${error.message}`]);
});

/**
 * For scripts and tests.
 *   ready                         a promise of the loaded Model: its site, vocabulary, frame [H, W] and provider
 *   locate(bytes, names)          see Model.locate: the similarity [T, h, w] of a picture of the frame's size, RGB or RGBA bytes
 *   heatmaps(found, [H, W])       what `locate` found as T maps of a picture of this size
 */
window.fastloc = {
  ready,
  locate: async (bytes, names) => (await ready).locate(bytes, names),
  heatmaps: async ({ similarity, shape }, size) => {
    const { recipe, model } = (await ready).site.model;
    return heatmaps(similarity, shape, size, recipe.readout, model.patch);
  },
};
