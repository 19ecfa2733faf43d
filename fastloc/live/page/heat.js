// Heat as colours: of one text in the colours of heat, of several each in its own.

// distinguishable on photographs, light and dark, and by most of those who see few colours
const TINTS = ["#ff7a1a", "#2aa8ff", "#2fd07a", "#f25bd0", "#ffd42a", "#8f7bff", "#ff5a5a", "#17d4c8", "#b8e04a", "#ff9fb2", "#c08a4a", "#9fb4c8"];

/** The colour of a text by its place, as CSS has it. */
export function tint(index) {
  return TINTS[index % TINTS.length];
}

/** 256 x RGB from the hexadecimal digits that the server sends. */
export function palette(digits) {
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

// opaque from one heat on, clear up to another
const ramp = (from, to) => Uint8Array.from({ length: 256 }, (_, value) => {
  const share = Math.min(Math.max((value - from) / (to - from), 0), 1);
  return Math.round(255 * share * share * (3 - 2 * share));
});
// the smoothstep of fastloc/imaging/overlay.py; and, where tints say nothing of how hot it is, one that leaves out the lukewarm
const [RAMP, TINTED] = [ramp(0, 204), ramp(77, 217)];

/** Colours of one map, [h * w] bytes of heat, into RGBA bytes. */
export function single(map, colours, out) {
  for (let i = 0; i < map.length; i++) {
    const [from, to] = [3 * map[i], 4 * i];
    out[to] = colours[from];
    out[to + 1] = colours[from + 1];
    out[to + 2] = colours[from + 2];
    out[to + 3] = RAMP[map[i]];
  }
}

/** Colours of several maps, each in its tint; where they meet, tints are mixed as their heats are. */
export function several(maps, tints, out) {
  const rgb = tints.map((tint) => [1, 3, 5].map((at) => parseInt(tint.slice(at, at + 2), 16)));
  for (let i = 0; i < maps[0].length; i++) {
    let [clear, red, green, blue, sum] = [1, 0, 0, 0, 0];
    maps.forEach((map, t) => {
      const cover = TINTED[map[i]] / 255;
      clear *= 1 - cover;
      red += cover * rgb[t][0];
      green += cover * rgb[t][1];
      blue += cover * rgb[t][2];
      sum += cover;
    });
    const to = 4 * i;
    const whole = sum || 1;
    out[to] = red / whole;
    out[to + 1] = green / whole;
    out[to + 2] = blue / whole;
    out[to + 3] = 255 * (1 - clear);
  }
}

/** Draws what the colours mean. */
export function bar(canvas, colours) {
  const image = new ImageData(canvas.width, 1);
  for (let i = 0; i < canvas.width; i++) {
    const row = 3 * Math.floor((255 * i) / (canvas.width - 1));
    image.data.set([...colours.subarray(row, row + 3), 255], 4 * i);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}
