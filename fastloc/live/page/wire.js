// What is said over the WebSocket, as fastloc/live/protocol.py states it.

const VERSION = 1;
const [FRAME, ANSWER] = [1, 2];
const HEADER = 16;

/** The message of a frame: its number, when it was captured in ms, its long side in pixels, and the picture's bytes. */
export function frameMessage(id, time, side, picture) {
  const message = new Uint8Array(HEADER + picture.byteLength);
  const header = new DataView(message.buffer);
  header.setUint8(0, VERSION);
  header.setUint8(1, FRAME);
  header.setUint16(2, side, true);
  header.setUint32(4, id, true);
  header.setFloat64(8, time, true);
  message.set(new Uint8Array(picture), HEADER);
  return message;
}

/**
 * An answer.
 * @param {ArrayBuffer} message
 * @returns {{facts: object, heat: Uint8Array, picture: Uint8Array}} heat [M, T, h, w], flat, of the shape in facts.shape
 */
export function readAnswer(message) {
  const header = new DataView(message);
  const [version, kind] = [header.getUint8(0), header.getUint8(1)];
  if (version !== VERSION || kind !== ANSWER) throw new Error("the server speaks another version: reload the page");
  const [length, heat] = [header.getUint32(4, true), header.getUint32(8, true)];
  const facts = JSON.parse(new TextDecoder().decode(new Uint8Array(message, HEADER, length)));
  return { facts, heat: new Uint8Array(message, HEADER + length, heat), picture: new Uint8Array(message, HEADER + length + heat) };
}
