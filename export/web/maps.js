// Similarities on the patch grid -> heatmaps on the picture, as fastloc/imaging/heatmaps.py and Result make them of a stretched picture.

const EPSILON = 2 ** -23;

/**
 * Heatmaps of similarities.
 * @param {Float32Array} similarity [T, h, w], flat
 * @param {number[]} shape [T, h, w]
 * @param {number[]} size [H, W] of the picture
 * @param {{order: string, logit_scale: number, reverse: boolean}} readout the recipe's
 * @param {number[]} patch [h, w] of a cell in pixels of the model's input
 * @param {number[][]} spans where the picture begins and ends, down and across, in cells; the whole grid by default
 * @returns {Float32Array[]} T maps [H, W], flat; within [0, 1] but for order "none"
 */
export function heatmaps(similarity, [count, high, wide], size, { order, logit_scale, reverse }, patch, spans = whole([high, wide])) {
  const onGrid = order === "softmax-grid" && count > 1;
  const scores = Array.from({ length: count }, (_, i) => similarity.slice(i * high * wide, (i + 1) * high * wide));
  const grids = onGrid ? softmax(scores, logit_scale) : scores;
  const up = (grid) => {
    if (order !== "softmax-input" || count === 1) return upsample(grid, [high, wide], size, spans);
    const input = [high * patch[0], wide * patch[1]];
    return upsample(upsample(grid, [high, wide], input), input, size, spans.map((ends, axis) => ends.map((end) => end * patch[axis])));
  };
  const flip = (map) => (reverse ? map.map((value) => 1 - value) : map);
  if (order === "grid") return grids.map((grid) => up(flip(minmax(grid))));
  const maps = grids.map(up);
  if (order === "none" || onGrid) return maps;
  // one text alone would be 1 everywhere
  if (order.startsWith("softmax") && count > 1) return softmax(maps, logit_scale);
  return maps.map((map) => flip(minmax(map)));
}

/** Where a map peaks: of equal pixels the one nearest to their middle. Continuous x, y in pixels, and the pixel's index. */
export function peak(map, [, wide]) {
  const top = map.reduce((a, b) => Math.max(a, b), -Infinity);
  const ties = [...map.keys()].filter((i) => map[i] === top).map((i) => [Math.floor(i / wide), i % wide]);
  const middle = [0, 1].map((axis) => ties.reduce((sum, tie) => sum + tie[axis], 0) / ties.length);
  const far = ([y, x]) => (y - middle[0]) ** 2 + (x - middle[1]) ** 2;
  const [y, x] = ties.reduce((best, tie) => (far(tie) < far(best) ? tie : best));
  return { x: x + 0.5, y: y + 0.5, index: y * wide + x };
}

/** Bilinear [h, w] -> [H, W]: cells lie over the whole picture, or as `spans` says, sampled at pixel centres, edges replicated. */
export function upsample(grid, cells, size, spans = whole(cells)) {
  const [rows, columns] = [0, 1].map((axis) => taps(cells[axis], size[axis], spans[axis]));
  const out = new Float32Array(size[0] * size[1]);
  const across = ({ low, next, weight }, row) => (1 - weight) * grid[row * cells[1] + low] + weight * grid[row * cells[1] + next];
  let i = 0;
  for (const row of rows) {
    for (const column of columns) out[i++] = (1 - row.weight) * across(column, row.low) + row.weight * across(column, row.next);
  }
  return out;
}

function whole(cells) {
  return cells.map((count) => [0, count]);
}

// per pixel the two cells it lies between, and how far along
function taps(cells, pixels, [from, to]) {
  // whole cells, whatever the division before left of them
  const [first, last] = [Math.max(Math.floor(from + 1e-6), 0), Math.min(Math.ceil(to - 1e-6), cells) - 1];
  return Array.from({ length: pixels }, (_, i) => {
    const at = Math.min(Math.max(from + ((i + 0.5) * (to - from)) / pixels - 0.5, first), last);
    const low = Math.floor(at);
    return { low, next: Math.min(low + 1, cells - 1), weight: at - low };
  });
}

export function minmax(map) {
  const [low, high] = [map.reduce((a, b) => Math.min(a, b)), map.reduce((a, b) => Math.max(a, b))];
  // a constant map says nothing: its rounding noise is not blown up to a full-range one
  const flat = high - low <= 8 * EPSILON * Math.max(Math.abs(low), Math.abs(high));
  return map.map((value) => (flat ? 0 : (value - low) / (high - low)));
}

function softmax(maps, scale) {
  const out = maps.map((map) => new Float32Array(map.length));
  for (let i = 0; i < maps[0].length; i++) {
    const top = Math.max(...maps.map((map) => map[i]));
    const powers = maps.map((map) => Math.exp(scale * (map[i] - top)));
    const total = powers.reduce((a, b) => a + b);
    powers.forEach((power, t) => (out[t][i] = power / total));
  }
  return out;
}
