// One view a method: the frame, the heat that belongs to this very frame, peaks, boxes and labels, all on one canvas.

import { several, single, tint } from "./heat.js";

// longest side of what is drawn, in pixels
const DRAWN = 1280;
const FONT = "600 {}px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";

/**
 * The views of an answer, made when they are first needed.
 * @param {HTMLElement} place
 */
export class Views {
  #views = [];
  #heat = document.createElement("canvas");

  constructor(place) {
    this.place = place;
  }

  get canvases() {
    return this.#views.map(({ canvas }) => canvas);
  }

  clear() {
    this.#views = [];
    this.place.replaceChildren();
  }

  /**
   * Draws a frame with its answer.
   * @param {ImageBitmap} bitmap
   * @param {{facts: object, heat: Uint8Array}} answer
   * @param {{opacity: number, threshold: number, solo: string, boxes: boolean, rings: boolean, labels: boolean, colours: Uint8Array}} look
   */
  draw(bitmap, { facts, heat }, look) {
    this.#arrange(facts.methods);
    const [wide, high] = drawnSize(bitmap, this.#views[0].canvas);
    const area = facts.shape[2] * facts.shape[3];
    facts.methods.forEach((method, m) => {
      const { canvas, context } = this.#views[m];
      if (canvas.width !== wide || canvas.height !== high) Object.assign(canvas, { width: wide, height: high });
      context.drawImage(bitmap, 0, 0, wide, high);
      const maps = facts.texts.map((_, t) => heat.subarray((m * facts.texts.length + t) * area, (m * facts.texts.length + t + 1) * area));
      this.#heatOver(context, maps, facts, look, wide, high);
      marks(context, facts, m, look, canvas);
    });
  }

  /** Says where things are, for those who do not see it; called now and then. */
  describe(facts) {
    facts.methods.forEach((method, m) => {
      const captions = facts.texts.map((text, t) => {
        const peak = facts.peaks[m][t];
        return peak ? `${text}: ${percent(peak[0])} from the left, ${percent(peak[1])} from the top` : `no heat for ${text}`;
      });
      this.#views[m]?.canvas.setAttribute("aria-label", `Heat by ${method}. ${captions.join("; ")}`);
    });
  }

  #arrange(methods) {
    if (methods.join() === this.#views.map(({ method }) => method).join()) return;
    this.#views = methods.map((method) => view(method, methods.length > 1));
    this.place.dataset.count = methods.length;
    this.place.replaceChildren(...this.#views.map(({ figure }) => figure));
  }

  #heatOver(context, maps, facts, look, wide, high) {
    const [, , rows, columns] = facts.shape;
    if (this.#heat.width !== columns || this.#heat.height !== rows) Object.assign(this.#heat, { width: columns, height: rows });
    const image = new ImageData(columns, rows);
    const alone = facts.texts.length === 1 ? 0 : facts.texts.indexOf(look.solo);
    if (alone >= 0) single(maps[alone], look.colours, image.data);
    else several(maps, facts.texts.map((_, t) => tint(t)), image.data);
    this.#heat.getContext("2d").putImageData(image, 0, 0);
    context.save();
    context.globalAlpha = look.opacity;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.#heat, 0, 0, wide, high);
    context.restore();
  }
}

/** The size that is drawn: the frame's own, or the screen's where that is finer, so that marks are sharp. */
function drawnSize({ width, height }, canvas) {
  const screen = (canvas.clientWidth * devicePixelRatio) / width;
  const scale = Math.min(Math.max(screen, 1), DRAWN / Math.max(width, height));
  return [width, height].map((side) => Math.max(Math.round(side * scale), 1));
}

function view(method, named) {
  const figure = document.createElement("figure");
  const canvas = document.createElement("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Heat by ${method}`);
  const caption = document.createElement("figcaption");
  caption.textContent = method;
  caption.hidden = !named;
  figure.append(canvas, caption);
  figure.dataset.method = method;
  return { method, figure, canvas, context: canvas.getContext("2d", { alpha: false }) };
}

/** Boxes, rings and labels of the texts that are shown. */
function marks(context, facts, m, look, canvas) {
  // a pixel of the screen, in pixels of the canvas
  const unit = canvas.width / (canvas.clientWidth || canvas.width);
  const shown = facts.texts.map((text, t) => ({ text, t })).filter(({ text }) => !facts.texts.includes(look.solo) || text === look.solo);
  for (const { t } of shown) {
    if (look.boxes) for (const box of facts.boxes[m].filter(([of]) => of === t)) outline(context, box, tint(t), unit, canvas);
  }
  for (const { text, t } of shown) {
    const peak = facts.peaks[m][t];
    // what is not there is not pointed at
    if (!peak || peak[2] < look.threshold) continue;
    const [x, y] = [peak[0] * canvas.width, peak[1] * canvas.height];
    if (look.rings) ring(context, x, y, tint(t), unit);
    if (look.labels) label(context, text, x, y, tint(t), unit, canvas);
  }
}

function outline(context, [, x0, y0, x1, y1], colour, unit, { width, height }) {
  const box = [x0 * width, y0 * height, (x1 - x0) * width, (y1 - y0) * height];
  for (const [ink, line] of [["rgb(0 0 0 / 60%)", 4.5], [colour, 2.5]]) {
    Object.assign(context, { strokeStyle: ink, lineWidth: line * unit, lineJoin: "round" });
    context.strokeRect(...box);
  }
}

function ring(context, x, y, colour, unit) {
  for (const [ink, line] of [["rgb(0 0 0 / 65%)", 6.5], ["#fff", 4.5], [colour, 2.5]]) {
    Object.assign(context, { strokeStyle: ink, lineWidth: line * unit });
    context.beginPath();
    context.arc(x, y, 10 * unit, 0, 2 * Math.PI);
    context.stroke();
  }
  for (const [ink, radius] of [["rgb(0 0 0 / 65%)", 3.2], ["#fff", 2.2]]) {
    context.fillStyle = ink;
    context.beginPath();
    context.arc(x, y, radius * unit, 0, 2 * Math.PI);
    context.fill();
  }
}

function label(context, text, x, y, colour, unit, { width, height }) {
  context.font = FONT.replace("{}", String(13 * unit));
  const shown = text.length > 32 ? `${text.slice(0, 31)}…` : text;
  const [wide, high] = [context.measureText(shown).width + 27 * unit, 24 * unit];
  // beside the ring, and within the picture
  const right = x + 18 * unit + wide <= width;
  const left = Math.max(right ? x + 18 * unit : x - 18 * unit - wide, 0);
  const top = Math.min(Math.max(y - high / 2, 0), height - high);
  context.fillStyle = "rgb(12 15 19 / 78%)";
  context.beginPath();
  context.roundRect(left, top, wide, high, 7 * unit);
  context.fill();
  context.fillStyle = colour;
  context.beginPath();
  context.arc(left + 11 * unit, top + high / 2, 4 * unit, 0, 2 * Math.PI);
  context.fill();
  context.fillStyle = "#fff";
  context.textBaseline = "middle";
  context.fillText(shown, left + 20 * unit, top + high / 2 + 0.5 * unit);
}

function percent(share) {
  return `${Math.round(100 * share)} %`;
}
