// What the page draws: for each word a figure with the picture, its heat and its peak.

/** An element with properties. */
export function element(tag, properties = {}) {
  return Object.assign(document.createElement(tag), properties);
}

/** A canvas and its context. */
export function canvas(width, height) {
  const made = element("canvas", { width, height });
  return { element: made, context: made.getContext("2d", { willReadFrequently: true }) };
}

/**
 * One word's figure: the picture, its heat over it, and a ring around the peak; the peak's place, as a share of width and height, is in
 * data-x and data-y.
 * @param {CanvasImageSource} picture
 * @param {string} name the word
 * @param {Float32Array} map its heat within [0, 1], of the size
 * @param {number[]} size [H, W]
 * @param {{x: number, y: number, similarity: number}} top the peak in pixels of the size, and the similarity there
 * @param {Uint8Array} colours 256 x RGB
 */
export function tile(picture, name, map, [high, wide], top, colours) {
  const base = canvas(wide, high);
  base.context.drawImage(picture, 0, 0, wide, high);
  const heat = canvas(wide, high);
  heat.context.putImageData(coloured(map, wide, high, colours), 0, 0);
  heat.element.className = "heat";
  const view = element("div", { className: "view", role: "img" });
  view.append(base.element, heat.element);
  const [x, y] = [top.x / wide, top.y / high];
  // a flat map has no peak
  const hot = map.some((value) => value > 0);
  if (hot) view.append(ring(x, y));
  view.ariaLabel = hot ? `Heat of ${name}, hottest ${percent(x)} from the left and ${percent(y)} from the top` : `No heat for ${name}`;
  const caption = element("figcaption");
  caption.append(element("strong", { textContent: name }), element("span", { textContent: `similarity ${top.similarity.toFixed(3)}` }));
  const figure = element("figure");
  figure.append(view, caption);
  Object.assign(figure.dataset, { name, x, y });
  return figure;
}

/** Draws what the colours mean. */
export function legend(element, colours) {
  const image = new ImageData(element.width, 1);
  for (let i = 0; i < element.width; i++) {
    const row = 3 * Math.floor((255 * i) / (element.width - 1));
    image.data.set([...colours.subarray(row, row + 3), 255], 4 * i);
  }
  element.getContext("2d").putImageData(image, 0, 0);
}

function ring(x, y) {
  const made = element("span", { className: "ring" });
  [made.style.left, made.style.top] = [`${100 * x}%`, `${100 * y}%`];
  return made;
}

/** Colours of a map, as opaque as they are hot: cold regions show the picture, and the warm core is evenly covered. */
function coloured(map, wide, high, colours) {
  const image = new ImageData(wide, high);
  map.forEach((value, i) => {
    const row = 3 * Math.floor(value * 255);
    const ramp = Math.min(value / 0.8, 1);
    image.data.set(colours.subarray(row, row + 3), 4 * i);
    image.data[4 * i + 3] = Math.round(255 * ramp * ramp * (3 - 2 * ramp));
  });
  return image;
}

function percent(share) {
  return `${Math.round(100 * share)} %`;
}
