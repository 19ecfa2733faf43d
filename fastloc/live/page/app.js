// The page: frames of a camera out, heat back in, each drawn over the very frame that it was made of. Scripts may use `window.fastloc`.

import { Controls } from "./controls.js";
import { Feed, cameraProblem } from "./feed.js";
import { bar, palette } from "./heat.js";
import { Link } from "./link.js";
import { Meters } from "./meters.js";
import { Views } from "./views.js";
import { frameMessage, readAnswer } from "./wire.js";

// frames that are on their way at a time: one at the model, one that waits there
const UNDER_WAY = 2;
// bytes that may wait in this browser, and ms after which a frame is given up
const [BACKLOG, LOST] = [262144, 8000];

const at = (id) => document.getElementById(id);
const link = new Link(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
const controls = new Controls();
const views = new Views(at("views"));
const meters = new Meters();
// number -> {bitmap, captured, sent} of frames that were sent
const pending = new Map();
const now = { limits: { fps: 30, side: 640 }, source: null, frozen: false, id: 0, shown: null, unsaid: 0, drawing: false, next: null, trip: null };
const feed = new Feed(hasRoom, () => now.limits);

/** Whether one more frame may go out: not to a server that has not answered those before, and not into a queue. */
function hasRoom() {
  for (const [id, { sent, bitmap }] of pending) {
    if (performance.now() - sent < LOST) break;
    pending.delete(id);
    bitmap.close();
  }
  return link.isOpen && !now.frozen && pending.size < UNDER_WAY && link.buffered < BACKLOG;
}

feed.addEventListener("frame", ({ detail: { bitmap, side, picture, captured } }) => {
  const id = ++now.id;
  if (!now.frozen && link.say(frameMessage(id, captured, side, picture))) pending.set(id, { bitmap, captured, sent: performance.now() });
  else bitmap.close();
});

feed.addEventListener("end", ({ detail }) => {
  stopped();
  tell(detail);
});

/** Takes the frames out that an answer ends: it, and those before it, which the server dropped. */
function taken(id) {
  let found = null;
  for (const [number, frame] of pending) {
    if (number > id) break;
    pending.delete(number);
    if (number === id) found = frame;
    else frame.bitmap.close();
  }
  return found;
}

link.addEventListener("answer", ({ detail }) => {
  let answer;
  try {
    answer = readAnswer(detail);
  } catch (error) {
    tell(error.message);
    return;
  }
  if (answer.picture.length) {
    ofServer(answer);
    return;
  }
  const frame = taken(answer.facts.id);
  if (!frame) return;
  if (now.frozen || !feed.kind) frame.bitmap.close();
  else show(frame.bitmap, answer, { latency: performance.now() - frame.sent, age: performance.now() - frame.captured });
});

/** An answer about the server's own source: only the newest one is decoded, and each is said to have been seen. */
async function ofServer(answer) {
  if (now.next) seen();
  now.next = answer;
  if (now.drawing) return;
  now.drawing = true;
  while (now.next) {
    const [newest, came] = [now.next, performance.now()];
    now.next = null;
    const bitmap = await createImageBitmap(new Blob([newest.picture], { type: "image/jpeg" })).catch(() => null);
    const way = (now.trip ?? 0) / 2;
    if (bitmap && !now.frozen) show(bitmap, newest, { latency: now.trip ?? undefined, age: newest.facts.age + way + performance.now() - came });
    seen();
  }
  now.drawing = false;
}

/** The server may send one more; while the page is frozen, that is said later. */
function seen() {
  if (now.frozen) now.unsaid += 1;
  else link.say({ type: "seen" });
}

/** Draws a frame with its answer, and keeps both for when only the look changes. */
function show(bitmap, answer, times) {
  if (now.shown) now.shown.bitmap.close();
  now.shown = { bitmap, answer };
  views.draw(bitmap, answer, controls.look);
  const { facts } = answer;
  const { counted, clients, inference } = facts;
  meters.take({ ...without(times), inference, clients, dropped: counted.dropped + counted.refused + (now.source ? 0 : feed.skipped) });
  if (meters.write()) {
    controls.legend(facts.texts, facts.peaks[0]);
    views.describe(facts);
  }
  if (!at("empty").hidden) running();
}

function without(times) {
  return Object.fromEntries(Object.entries(times).filter(([, value]) => value !== undefined));
}

controls.addEventListener("look", () => now.shown && views.draw(now.shown.bitmap, now.shown.answer, controls.look));
controls.addEventListener("ask", ({ detail }) => link.say({ type: "settings", ...detail }));

link.addEventListener("open", () => {
  forget();
  if (Object.keys(controls.requested).length) link.say({ type: "settings", ...controls.requested });
  link.say({ type: "ping", time: performance.now() });
});

link.addEventListener("closed", ({ detail: { reason } }) => {
  forget();
  pill("gone", "Not connected");
  tell(`${reason || "The connection broke."} Trying again …`);
  now.lost = true;
});

const WORDS = {
  welcome(facts) {
    if (now.lost) tell("");
    now.lost = false;
    [now.limits, now.source] = [facts.limits, facts.source];
    controls.look.colours = palette(facts.colours);
    bar(at("colours"), controls.look.colours);
    controls.offer(facts);
    pill("live", "Connected");
    at("about").textContent = [`fastloc ${facts.fastloc}${facts.model ? ` with ${facts.model}` : ""}.`, facts.note].join(" ");
    sources();
  },
  settings(current) {
    for (const field of Object.keys(controls.requested)) controls.requested[field] = current[field];
    controls.show(current);
  },
  problem({ field, message }) {
    if (field === "source") failed(message);
    else if (!controls.problem(field, message)) tell(message);
    // a refused setting is not requested again
    delete controls.requested[field];
  },
  refused({ id, message }) {
    const frame = pending.get(id);
    pending.delete(id);
    frame?.bitmap.close();
    tell(`A frame was refused: ${message}`);
  },
  pong({ time }) {
    now.trip = performance.now() - time;
  },
};

link.addEventListener("words", ({ detail: { type, ...fields } }) => WORDS[type]?.(fields));

/** Frames on their way will not be answered. */
function forget() {
  for (const { bitmap } of pending.values()) bitmap.close();
  pending.clear();
  now.unsaid = 0;
}

/** Shows where frames come from: the server, or what this browser has. */
function sources() {
  const { source } = now;
  at("starts").hidden = at("where").hidden = Boolean(source);
  at("source-row").hidden = !source;
  if (!source) return;
  at("invitation").textContent = "Waiting for the first frame …";
  at("source-name").textContent = source.name;
  at("source-kind").textContent = source.live ? "live" : "looping";
  at("source-hint").textContent = "Read by the server; all who are connected see it.";
}

function failed(message) {
  tell(message);
  at("empty").hidden = false;
  at("invitation").textContent = message;
}

function running() {
  at("empty").hidden = true;
  for (const id of ["freeze", "save"]) at(id).disabled = false;
  document.documentElement.dataset.state = "running";
}

/** Back to where a source is chosen. */
function stopped() {
  feed.stop();
  forget();
  freeze(false);
  views.clear();
  meters.clear();
  now.shown?.bitmap.close();
  now.shown = null;
  at("empty").hidden = false;
  at("camera-row").hidden = at("source-buttons").hidden = true;
  at("source-hint").textContent = "None yet.";
  for (const id of ["freeze", "save"]) at(id).disabled = true;
  document.documentElement.dataset.state = "waiting";
}

async function startCamera(deviceId) {
  tell("");
  at("start").disabled = true;
  try {
    const used = await feed.camera(deviceId);
    await listCameras(used);
    at("source-hint").textContent = "This browser's camera.";
    started();
  } catch (error) {
    stopped();
    tell(cameraProblem(error));
  } finally {
    at("start").disabled = false;
  }
}

async function startFilm(file) {
  if (!file) return;
  tell("");
  try {
    await feed.film(file);
    at("camera-row").hidden = true;
    at("source-hint").textContent = `${file.name}, looping.`;
    started();
  } catch (error) {
    stopped();
    tell(`${file.name} is not a video that this browser can play (${error.message}).`);
  }
}

function started() {
  freeze(false);
  feed.skipped = 0;
  at("source-buttons").hidden = false;
}

async function listCameras(used) {
  const cameras = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
  at("camera").replaceChildren(...cameras.map(({ label, deviceId }, i) => new Option(label || `Camera ${i + 1}`, deviceId)));
  at("camera").value = used ?? cameras[0]?.deviceId ?? "";
  at("camera-row").hidden = false;
}

function freeze(frozen) {
  now.frozen = frozen;
  at("freeze").ariaPressed = String(frozen);
  at("freeze").textContent = frozen ? "Go on" : "Freeze";
  feed.hold(frozen);
  for (; !frozen && now.unsaid > 0; now.unsaid--) link.say({ type: "seen" });
}

/** Saves what is shown, methods beside one another, as a PNG. */
async function save() {
  const canvases = views.canvases;
  const sheet = document.createElement("canvas");
  sheet.width = canvases.reduce((sum, { width }) => sum + width, 0);
  sheet.height = Math.max(...canvases.map(({ height }) => height));
  const context = sheet.getContext("2d");
  canvases.reduce((x, canvas) => (context.drawImage(canvas, x, 0), x + canvas.width), 0);
  const blob = await new Promise((done) => sheet.toBlob(done, "image/png"));
  const anchor = document.createElement("a");
  anchor.download = `fastloc-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}.png`;
  anchor.href = URL.createObjectURL(blob);
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 10000);
}

function pill(kind, text) {
  Object.assign(at("link"), { textContent: text, className: `pill ${kind}` });
}

/** Says what is wrong, or nothing more. */
function tell(line) {
  at("error").textContent = line;
}

at("start").addEventListener("click", () => startCamera());
at("camera").addEventListener("change", ({ target }) => startCamera(target.value));
for (const id of ["film", "other-film"]) at(id).addEventListener("change", ({ target }) => startFilm(target.files[0]).then(() => (target.value = "")));
at("stop").addEventListener("click", stopped);
at("freeze").addEventListener("click", () => freeze(!now.frozen));
at("save").addEventListener("click", save);
at("views").addEventListener("dblclick", () => now.shown && freeze(!now.frozen));

document.documentElement.dataset.state = "waiting";
link.open();

/**
 * For scripts and tests.
 *   last()       the facts of the answer that is shown, or null
 *   heat(m, t)   its heat of one method and text: {rows, columns, values within [0, 255]}
 *   counts()     frames under way, skipped here, and the link's state
 */
window.fastloc = {
  last: () => now.shown?.answer.facts ?? null,
  heat: (m, t) => {
    const { facts, heat } = now.shown.answer;
    const [, texts, rows, columns] = facts.shape;
    const start = (m * texts + t) * rows * columns;
    return { rows, columns, values: [...heat.subarray(start, start + rows * columns)] };
  },
  counts: () => ({ pending: pending.size, skipped: feed.skipped, open: link.isOpen, fps: meters.fps }),
};
