// The one WebSocket: opened again when it breaks, and asked how it is.

const [SOONEST, LATEST] = [500, 8000];
// ms between signs of life, also while nothing moves
const PULSE = 10000;

/** Emits "open", "closed" {reason, again}, "words" (an object) and "answer" (an ArrayBuffer). */
export class Link extends EventTarget {
  #socket = null;
  #wait = SOONEST;
  #timer = 0;

  constructor(address) {
    super();
    this.address = address;
    setInterval(() => this.say({ type: "ping", time: performance.now() }), PULSE);
    // a page that nobody saw may have been taken for gone
    document.addEventListener("visibilitychange", () => document.hidden || this.#socket || this.open());
  }

  get isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /** Bytes that were given to the browser and not yet to the network. */
  get buffered() {
    return this.#socket?.bufferedAmount ?? 0;
  }

  open() {
    clearTimeout(this.#timer);
    const socket = new WebSocket(this.address);
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.addEventListener("open", () => this.dispatchEvent(new Event("open")));
    socket.addEventListener("message", ({ data }) => {
      // an answer of a server that lets us in, and not its opening alone, makes the next wait short
      this.#wait = SOONEST;
      if (typeof data === "string") this.#tell("words", JSON.parse(data));
      else this.#tell("answer", data);
    });
    socket.addEventListener("close", ({ code, reason }) => this.#closed(code, reason));
  }

  /** Sends bytes, or an object as JSON; false where there is no connection. */
  say(message) {
    if (!this.isOpen) return false;
    this.#socket.send(message instanceof Uint8Array ? message : JSON.stringify(message));
    return true;
  }

  async #closed(code, reason) {
    this.#socket = null;
    const wait = this.#wait;
    this.#wait = Math.min(2 * wait, LATEST);
    this.#timer = setTimeout(() => this.open(), wait);
    this.#tell("closed", { code, reason: reason || (await refusal()), again: wait });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** Why the server does not let us in, in words; a refused WebSocket gets no reason. */
async function refusal() {
  const response = await fetch("state").catch(() => null);
  if (!response) return "The server does not answer.";
  if (response.status === 401) return "The token has changed: open the address that the server printed.";
  if (response.status === 429) return "Too many wrong tokens came from here: wait a minute.";
  if (response.status === 403) return "This is not the server's own address: open the one that it printed.";
  return "";
}
