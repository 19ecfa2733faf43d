// The inputs: what they ask of the server, what they change here alone, and what the server says is in force.

import { tint } from "./heat.js";

const at = (id) => document.getElementById(id);
// ms that a slider is left alone before the server hears of it
const CALM = 120;

/** The words of a line, each once. */
export function words(line) {
  return [...new Set(line.split(",").map((each) => each.trim()).filter(Boolean))];
}

/** Emits "ask" {settings} for the server and "look" for the drawing. `look` is how things are drawn. */
export class Controls extends EventTarget {
  look = { opacity: 0.7, threshold: 0.5, solo: "", boxes: false, rings: true, labels: true, colours: new Uint8Array(768) };
  // settings requested since the page was opened; sent again to a server that was gone
  requested = {};
  #timer = 0;
  #later = {};
  #summaries = new Map();
  #legend = "";

  constructor() {
    super();
    at("ask").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#ask({ texts: words(at("texts").value) });
    });
    at("method").addEventListener("change", () => this.#askMethods());
    at("beside").addEventListener("change", () => this.#askMethods());
    at("maps").addEventListener("change", () => this.#askMaps());
    for (const id of ["low", "high"]) at(id).addEventListener("change", () => this.#askMaps());
    at("background").addEventListener("change", () => this.#ask({ background: words(at("background").value) }));
    at("smooth").addEventListener("input", () => this.#slide("smooth", Number(at("smooth").value)));
    at("threshold").addEventListener("input", () => this.#slide("threshold", Number(at("threshold").value) / 100));
    at("opacity").addEventListener("input", () => this.#changed());
    for (const id of ["rings", "labels"]) at(id).addEventListener("change", () => this.#changed());
    at("boxes").addEventListener("change", () => this.#ask({ boxes: at("boxes").checked }));
    at("legend").addEventListener("click", ({ target }) => this.#solo(target.closest("button")?.dataset.text));
    this.#changed();
  }

  /** Fills in what the server offers. */
  offer({ methods, limits }) {
    this.#summaries = new Map(methods.map(({ name, summary }) => [name, summary]));
    const options = () => methods.map(({ name }) => new Option(name, name));
    at("method").replaceChildren(...options());
    at("beside").replaceChildren(new Option("nothing", ""), ...options());
    const one = methods.length < 2;
    at("method").disabled = one;
    at("beside").closest(".row").hidden = one || limits.methods < 2;
  }

  /** Shows what is in force. A line that somebody is typing in stays as it is. */
  show(settings) {
    for (const id of ["texts", "background"]) {
      if (document.activeElement !== at(id) || id in this.requested) at(id).value = settings[id].join(", ");
    }
    [at("method").value, at("beside").value] = [settings.methods[0], settings.methods[1] ?? ""];
    for (const option of at("beside").options) option.disabled = option.value === settings.methods[0];
    at("summary").textContent = settings.methods.map((name) => (settings.methods.length > 1 ? `${name}: ` : "") + (this.#summaries.get(name) ?? "")).join("; ");
    const fixed = Array.isArray(settings.maps);
    at("maps").value = fixed ? "fixed" : settings.maps;
    if (fixed) [at("low").value, at("high").value] = settings.maps;
    at("smooth").value = settings.smooth;
    at("threshold").value = Math.round(100 * settings.threshold);
    at("boxes").checked = settings.boxes;
    this.look.boxes = settings.boxes;
    for (const id of ["texts", "background"]) this.problem(id, "");
    at("texts-hint").textContent = settings.notes.length ? settings.notes.join(". ") : "Separated by commas; change them at any time.";
    at("texts-hint").classList.toggle("noted", settings.notes.length > 0);
    this.#rows();
    this.#changed();
  }

  /** Says what is wrong beside the input; false where there is no place for it. */
  problem(field, message) {
    const place = at(`${field}-problem`);
    if (!place) return false;
    place.textContent = message;
    at(field).ariaInvalid = String(Boolean(message));
    return true;
  }

  /** The texts with their colours and how similar they are; made anew where they changed, else written into. */
  legend(texts, peaks) {
    const now = texts.join("\n");
    if (now !== this.#legend) {
      this.#legend = now;
      if (!texts.includes(this.look.solo)) this.look.solo = "";
      at("legend").replaceChildren(...texts.map((text, t) => chip(text, t)));
      this.#pressed();
    }
    [...at("legend").querySelectorAll("span.value")].forEach((place, t) => {
      place.textContent = peaks[t] ? peaks[t][3].toFixed(2) : "–";
    });
  }

  #askMethods() {
    const [first, second] = [at("method").value, at("beside").value];
    this.#ask({ methods: second && second !== first ? [first, second] : [first] });
  }

  #askMaps() {
    this.#rows();
    const kind = at("maps").value;
    this.#ask({ maps: kind === "fixed" ? [Number(at("low").value), Number(at("high").value)] : kind });
  }

  #rows() {
    at("fixed-row").hidden = at("maps").value !== "fixed";
    at("background-row").hidden = at("maps").value !== "background";
  }

  #slide(name, value) {
    this.#later[name] = value;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#ask(this.#later);
      this.#later = {};
    }, CALM);
    this.#changed();
  }

  #ask(settings) {
    Object.assign(this.requested, settings);
    this.dispatchEvent(new CustomEvent("ask", { detail: settings }));
  }

  #solo(text) {
    if (text === undefined) return;
    this.look.solo = this.look.solo === text ? "" : text;
    this.#pressed();
    this.#changed();
  }

  #pressed() {
    for (const button of at("legend").querySelectorAll("button")) button.ariaPressed = String(button.dataset.text === this.look.solo);
    at("legend").dataset.solo = this.look.solo;
  }

  #changed() {
    const smooth = Number(at("smooth").value);
    at("opacity-shown").textContent = `${at("opacity").value} %`;
    at("smooth-shown").textContent = smooth ? `${smooth.toFixed(1)} s` : "off";
    at("threshold-shown").textContent = `${at("threshold").value} %`;
    this.look.opacity = at("opacity").value / 100;
    this.look.threshold = at("threshold").value / 100;
    for (const id of ["rings", "labels"]) this.look[id] = at(id).checked;
    this.dispatchEvent(new Event("look"));
  }
}

function chip(text, index) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  Object.assign(button, { type: "button", ariaPressed: "false", title: "See this text alone" });
  button.dataset.text = text;
  const [dot, name, value] = ["dot", "name", "value"].map((kind) => Object.assign(document.createElement("span"), { className: kind }));
  dot.style.background = tint(index);
  name.textContent = text;
  value.title = "Similarity where the heat peaks";
  button.append(dot, name, value);
  item.append(button);
  return item;
}
