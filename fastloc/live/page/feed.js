// What this browser shows to the model: a camera or a video file, as a <video>, and the newest frame of it whenever there is room for one.

const QUALITY = 0.82;

/** Emits "frame" {bitmap, side, picture, captured} at the pace that `room` allows, and counts the frames that it skipped. */
export class Feed extends EventTarget {
  skipped = 0;
  kind = "";
  #video = document.createElement("video");
  #canvas = document.createElement("canvas");
  #busy = false;
  #watch = 0;
  #address = "";

  /**
   * @param {() => boolean} room whether one more frame may go out now
   * @param {() => {fps: number, side: number}} limits the server's
   */
  constructor(room, limits) {
    super();
    Object.assign(this, { room, limits });
    Object.assign(this.#video, { muted: true, playsInline: true, loop: true });
    this.last = -Infinity;
  }

  /** Opens a camera; which one, or any. Throws what the browser says. */
  async camera(deviceId) {
    this.stop();
    if (!navigator.mediaDevices?.getUserMedia) throw new DOMException("no secure context", "SecurityError");
    const constraints = { width: { ideal: 1280 }, height: { ideal: 720 }, ...(deviceId ? { deviceId: { exact: deviceId } } : { facingMode: "environment" }) };
    const stream = await navigator.mediaDevices.getUserMedia({ video: constraints, audio: false });
    const [track] = stream.getVideoTracks();
    track.addEventListener("ended", () => this.#video.srcObject === stream && this.#end("The camera was taken away."));
    this.#video.srcObject = stream;
    await this.#play("camera");
    return track.getSettings().deviceId;
  }

  /** Opens a video file; it runs in a circle. Throws what the browser says. */
  async film(file) {
    this.stop();
    this.#address = URL.createObjectURL(file);
    this.#video.src = this.#address;
    await this.#play("film");
  }

  /** Holds a video file's picture, or lets it go on. */
  hold(held) {
    if (this.kind !== "film") return;
    if (held) this.#video.pause();
    else this.#video.play();
  }

  stop() {
    this.kind = "";
    this.#watch += 1;
    for (const track of this.#video.srcObject?.getTracks() ?? []) track.stop();
    this.#video.pause();
    this.#video.srcObject = null;
    this.#video.removeAttribute("src");
    if (this.#address) URL.revokeObjectURL(this.#address);
    this.#address = "";
  }

  async #play(kind) {
    const watch = this.#watch;
    await this.#video.play();
    // another source was chosen meanwhile
    if (watch !== this.#watch) return;
    this.kind = kind;
    this.#next(watch);
  }

  #end(reason) {
    this.stop();
    this.dispatchEvent(new CustomEvent("end", { detail: reason }));
  }

  #next(watch) {
    const then = (now, facts) => {
      if (watch !== this.#watch) return;
      this.#frame(Math.min(facts?.captureTime ?? now, now));
      this.#next(watch);
    };
    if (this.#video.requestVideoFrameCallback) this.#video.requestVideoFrameCallback(then);
    else requestAnimationFrame((now) => then(now));
  }

  async #frame(captured) {
    const { fps, side } = this.limits();
    const now = performance.now();
    // a little early is on time: cameras do not tick like clocks
    if (this.#busy || !this.room() || now - this.last < 1000 / fps - 4) {
      this.skipped += 1;
      return;
    }
    [this.#busy, this.last] = [true, now];
    try {
      const bitmap = await createImageBitmap(this.#video);
      const scale = Math.min(side / Math.max(bitmap.width, bitmap.height), 1);
      const [wide, high] = [bitmap.width, bitmap.height].map((length) => Math.max(Math.round(length * scale), 1));
      const picture = await encoded(this.#canvas, bitmap, wide, high);
      this.dispatchEvent(new CustomEvent("frame", { detail: { bitmap, side: Math.max(wide, high), picture, captured } }));
    } catch (error) {
      // a source that was closed while its frame was taken
      if (this.kind) console.warn(`a frame could not be taken: ${error.message}`);
    } finally {
      this.#busy = false;
    }
  }
}

/** What is wrong with a camera, in words, from the browser's error. */
export function cameraProblem(error) {
  const messages = {
    NotAllowedError: "The camera was not allowed. Allow it for this page (the camera sign in the address bar), then start it again.",
    NotFoundError: "There is no camera here. Connect one, or use a video file.",
    OverconstrainedError: "That camera is not there any more. Choose another one.",
    NotReadableError: "The camera is in use by another program. Close that one, then start it again.",
    SecurityError: "Browsers give a page the camera only over https or on the machine itself: serve this page with --certfile, or use a video file.",
  };
  return messages[error.name] ?? `The camera cannot be used: ${error.message}`;
}

async function encoded(canvas, bitmap, wide, high) {
  if (canvas.width !== wide || canvas.height !== high) Object.assign(canvas, { width: wide, height: high });
  const context = canvas.getContext("2d", { alpha: false });
  context.imageSmoothingQuality = "medium";
  context.drawImage(bitmap, 0, 0, wide, high);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", QUALITY));
  return blob.arrayBuffer();
}
