// An answer's similarity -> heat over the picture, wherever the model's input lay on it.

import { heatmaps, minmax } from "./maps.js";

/** float32 numbers of base64, little-endian. */
function floats(data) {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

/**
 * One axis: cells of the grid that hold some of the picture, the share of them that the picture spans, and the pixels that the model saw.
 * The arithmetic is that of fastloc/imaging/geometry.py.
 */
function axis({ input, resized, corner }, which, cells, pixels) {
  const [from, to] = [-corner[which], resized[which] - corner[which]].map((edge) => (edge * cells) / input[which]);
  const low = Math.max(Math.floor(from), 0);
  const high = Math.max(Math.min(Math.ceil(to), cells), low + 1);
  const pixel = (cell) => ((cell - from) / (to - from)) * pixels;
  const first = Math.min(Math.max(Math.ceil(pixel(0) - 0.5), 0), pixels - 1);
  const last = Math.max(Math.min(Math.floor(pixel(cells) - 0.5), pixels - 1), first);
  // where the pixels that were seen begin and end, in cells of those that are kept
  const place = (index) => from + ((to - from) * index) / pixels - low;
  return { low, high, first, count: last - first + 1, span: [place(first), place(last + 1)] };
}

/**
 * Heat of an answer.
 * @param {{similarity: object, geometry: object, readout: object}} result of /v1/locate
 * @param {number[]} size [H, W] that is drawn
 * @returns {Float32Array[]} T maps [H, W] within [0, 1], 0 where the model did not see the picture
 */
export function spread({ similarity, geometry, readout }, size) {
  const [texts, rows, columns] = similarity.shape;
  const [down, across] = [axis(geometry, 0, rows, size[0]), axis(geometry, 1, columns, size[1])];
  const cells = [down.high - down.low, across.high - across.low];
  const every = floats(similarity.data);
  const kept = new Float32Array(texts * cells[0] * cells[1]);
  let to = 0;
  for (let t = 0; t < texts; t++) {
    for (let row = down.low; row < down.high; row++) {
      const start = (t * rows + row) * columns;
      kept.set(every.subarray(start + across.low, start + across.high), to);
      to += cells[1];
    }
  }
  const seen = [down.count, across.count];
  const patch = [geometry.input[0] / rows, geometry.input[1] / columns];
  const maps = heatmaps(kept, [texts, ...cells], seen, readout, patch, [down.span, across.span]);
  // raw similarities have no common 0 and 1
  return maps.map((map) => within(readout.order === "none" ? minmax(map) : map, seen, [down.first, across.first], size));
}

/** A map of a part of the picture as one of the whole. */
function within(map, [high, wide], [top, left], size) {
  if (high === size[0] && wide === size[1]) return map;
  const whole = new Float32Array(size[0] * size[1]);
  for (let row = 0; row < high; row++) whole.set(map.subarray(row * wide, (row + 1) * wide), (top + row) * size[1] + left);
  return whole;
}
