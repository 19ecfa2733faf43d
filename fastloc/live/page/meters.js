// Numbers that are shown: smoothed, so that they can be read, and written a few times a second.

const PACE = 250;
// seconds over which the rate is taken
const WINDOW = 2;

/** Keeps the numbers of the stream and writes them into the elements of their names. */
export class Meters {
  #times = [];
  #values = {};
  #written = 0;

  /** Takes numbers in; those called in ms are averaged over about ten frames. */
  take(values, now = performance.now()) {
    this.#times.push(now);
    while (this.#times[0] < now - 1000 * WINDOW) this.#times.shift();
    for (const [name, value] of Object.entries(values)) {
      const before = this.#values[name];
      const averaged = ["latency", "age", "inference"].includes(name) && before !== undefined;
      this.#values[name] = averaged ? before + 0.15 * (value - before) : value;
    }
  }

  get fps() {
    const [first, last] = [this.#times[0], this.#times.at(-1)];
    return last > first ? (1000 * (this.#times.length - 1)) / (last - first) : 0;
  }

  /** Whether it is time to write; then they are written. */
  write(now = performance.now()) {
    if (now - this.#written < PACE) return false;
    this.#written = now;
    const shown = { ...this.#values, fps: this.fps };
    for (const [name, value] of Object.entries(shown)) {
      const place = document.getElementById(name);
      if (place) place.textContent = written(name, value);
    }
    return true;
  }

  clear() {
    [this.#times, this.#values] = [[], {}];
    for (const place of document.querySelectorAll("#stats dd")) place.textContent = "–";
  }
}

function written(name, value) {
  if (name === "fps") return value.toFixed(1);
  if (["latency", "age", "inference"].includes(name)) return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
  return value < 10000 ? String(value) : `${Math.round(value / 1000)}k`;
}
