"use strict";
// Checks the proof in this page, as docs/proofs.md says. Nothing here makes a request, and whatever
// the proof says is shown as text.
const ENDS = ["session.succeeded", "session.failed"];
const UNSAFE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

class Wrong extends Error {}

const utf8 = (text) => {
  if (!text.isWellFormed()) throw new Wrong("a text is not valid UTF-8");
  return new TextEncoder().encode(text);
};

function base64(text, what) {
  let bytes;
  try {
    bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    throw new Wrong(`${what} is not base64`);
  }
  if (btoa(String.fromCharCode(...bytes)) !== text) throw new Wrong(`${what} is not base64`);
  return bytes;
}

function hashOf(text, what) {
  const bytes = base64(text, what);
  if (bytes.length !== 32) throw new Wrong(`${what} does not have 32 bytes`);
  return bytes;
}

function joined(...parts) {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

// Refuses members that the form does not have, because they are not proven.
function only(object, names) {
  for (const name of Object.keys(object)) {
    if (!names.includes(name)) throw new Wrong(`it has a member ${name}, which a proof does not have`);
  }
}

const equal = (one, other) => one.length === other.length && one.every((byte, at) => byte === other[at]);
const sha256 = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
const node = (left, right) => sha256(joined([1], left, right));

function number(value) {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigInt64(0, BigInt(value));
  return bytes;
}

function field(bytes) {
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, bytes.length);
  return joined(length, bytes);
}

// The largest power of two below a count of at least two.
function half(count) {
  let power = 1;
  while (power * 2 < count) power *= 2;
  return power;
}

async function root(leaves) {
  if (leaves.length === 0) return sha256(new Uint8Array());
  let row = leaves;
  while (row.length > 1) {
    const above = [];
    for (let at = 0; at + 1 < row.length; at += 2) above.push(await node(row[at], row[at + 1]));
    if (row.length % 2) above.push(row.at(-1));
    row = above;
  }
  return row[0];
}

async function rootOfProof(leaves, size, path) {
  const indexes = [...leaves.keys()].sort((one, other) => one - other);
  if (!indexes.length || indexes.at(-1) >= size) throw new Wrong("a leaf is not in this log");
  let used = 0;
  async function walk(begin, end) {
    if (!indexes.some((index) => begin <= index && index < end)) {
      if (used === path.length) throw new Wrong("the path is too short");
      return path[used++];
    }
    if (end - begin === 1) return leaves.get(begin);
    const middle = begin + half(end - begin);
    const left = await walk(begin, middle);
    return node(left, await walk(middle, end));
  }
  const found = await walk(0, size);
  if (used < path.length) throw new Wrong("the path is too long");
  return found;
}

function payload(event) {
  const shown = [event.data, event.base64, event.commitment].filter((one) => one !== undefined);
  if (shown.length !== 1) throw new Wrong(`event ${event.seq} must have exactly one of data, base64 and commitment`);
  if (event.commitment !== undefined) return null;
  return event.data !== undefined ? utf8(event.data) : base64(event.base64, "a payload");
}

async function leafOf(stream, event) {
  for (const value of [event.seq, event.version, event.leaf ?? 0]) {
    if (!Number.isSafeInteger(value) || value < 0) throw new Wrong("a number is none");
  }
  if (!/^(0|-?[1-9][0-9]{0,18})$/.test(event.time)) throw new Wrong("a time is none");
  const time = BigInt(event.time);
  if (BigInt.asIntN(64, time) !== time) throw new Wrong("a time is none");
  const data = payload(event);
  let commitment;
  if (data === null) {
    commitment = hashOf(event.commitment, "a commitment");
  } else {
    if (stream.salt === undefined) throw new Wrong("a salt is missing");
    commitment = await hmac(base64(stream.salt, "a salt"), data);
  }
  return sha256(joined(
    [0], field(utf8(stream.stream)), field(number(event.seq)), field(number(time)),
    field(utf8(event.type)), field(number(event.version)), field(commitment),
  ));
}

// HMAC-SHA-256 by hand, because WebCrypto refuses the empty key of a stream without a salt.
async function hmac(key, data) {
  const block = joined(key.length > 64 ? await sha256(key) : key, new Uint8Array(64)).slice(0, 64);
  const inner = await sha256(joined(block.map((byte) => byte ^ 0x36), data));
  return sha256(joined(block.map((byte) => byte ^ 0x5c), inner));
}

async function checkStream(stream, leaves) {
  only(stream, ["stream", "salt", "events"]);
  const events = stream.events;
  const hashes = [];
  for (const event of events) {
    only(event, ["seq", "time", "type", "version", "leaf", "data", "base64", "commitment"]);
    hashes.push(await leafOf(stream, event));
  }
  if (!events.length || events.some((event, at) => event.seq <= (at ? events[at - 1].seq : 0))) {
    throw new Wrong(`the events of ${stream.stream} are not in order`);
  }
  const last = events.at(-1);
  if (events.some((event) => event.leaf === undefined)) {
    const end = ENDS.includes(last.type) && payload(last) !== null
      ? JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(payload(last))) : {};
    if (events.some((event) => (event.leaf === undefined) === (event === last))
      || end.events !== events.length - 1 || last.seq !== events.length || typeof end.root !== "string"
      || !equal(base64(end.root, "the root of a session"), await root(hashes.slice(0, -1)))) {
      throw new Wrong(`the end of ${stream.stream} does not match the events before it`);
    }
  }
  events.forEach((event, at) => {
    if (event.leaf === undefined) return;
    if (leaves.has(event.leaf) && !equal(leaves.get(event.leaf), hashes[at])) {
      throw new Wrong("two events have the same leaf");
    }
    leaves.set(event.leaf, hashes[at]);
  });
  return last.seq === events.length
    && (ENDS.includes(last.type) || (events.length === 1 && last.type !== "session.started"));
}

function splitNote(content) {
  const at = content.lastIndexOf("\n\n");
  if (at < 0 || !content.startsWith("\u2014 ", at + 2) || !content.endsWith("\n")) {
    return { text: content, signatures: [] };
  }
  return {
    text: content.slice(0, at + 1),
    signatures: content.slice(at + 2, -1).split("\n").map((line) => line.split(" ")),
  };
}

function readCheckpoint(text) {
  const lines = text.split("\n");
  if (lines.length < 4 || lines.indexOf("") !== lines.length - 1 || !/^(0|[1-9][0-9]{0,15})$/.test(lines[1])) {
    throw new Wrong("the checkpoint has a wrong form");
  }
  const size = Number(lines[1]);
  if (!Number.isSafeInteger(size)) throw new Wrong("the checkpoint has a wrong form");
  return { origin: lines[0], size, root: hashOf(lines[2], "the root of the checkpoint") };
}

// True if the key signed the note; throws Wrong if it did not.
async function checkSignature(note, keyText) {
  const found = /^([^+\s]+)\+([0-9a-f]{8})\+(\S+)$/.exec(keyText.trim());
  const key = found && base64(found[3], "the key");
  if (!key || key.length !== 33 || key[0] !== 1) throw new Wrong("this is not a public key");
  const name = utf8(found[1]);
  const id = (await sha256(joined(name, [10], key))).slice(0, 4);
  if ([...id].map((byte) => byte.toString(16).padStart(2, "0")).join("") !== found[2]) {
    throw new Wrong("the public key does not match its id");
  }
  const imported = await crypto.subtle.importKey("raw", key.slice(1), { name: "Ed25519" }, false, ["verify"]);
  let signed = false;
  for (const [dash, signer, value, ...more] of note.signatures) {
    if (dash !== "\u2014" || value === undefined || more.length) throw new Wrong("a signature has a wrong form");
    const bytes = base64(value, "a signature");
    if (signer !== found[1] || !equal(bytes.slice(0, 4), id)) continue;
    if (!await crypto.subtle.verify("Ed25519", imported, bytes.slice(4), utf8(note.text))) {
      throw new Wrong(`the signature of ${found[1]} does not match the checkpoint`);
    }
    signed = true;
  }
  if (!signed) throw new Wrong(`${found[1]} did not sign the checkpoint`);
}

async function signatureOf(note, proof, given) {
  const key = given || proof.key;
  if (!key) return ["unknown", "There is no public key with which the signature of the checkpoint can be checked."];
  try {
    await checkSignature(note, key);
  } catch (error) {
    if (error instanceof Wrong) return ["wrong", `Signature: ${error.message}.`];
    return ["unknown", `This browser can't check Ed25519 signatures (${error.name}).`];
  }
  if (given) return ["good", "The checkpoint is signed with the key that you gave."];
  return ["unknown", `The checkpoint is signed with the key inside this page, ${key}. Compare it with a key that you have from another source.`];
}

async function check(proof, given) {
  only(proof, ["format", "how", "checkpoint", "key", "streams", "path"]);
  if (proof.format !== "lllm-proof/1") throw new Wrong("this page does not know this version of the form");
  const note = splitNote(proof.checkpoint);
  const checkpoint = readCheckpoint(note.text);
  const results = [];
  const leaves = new Map();
  const complete = [];
  for (const stream of proof.streams) complete.push([stream, await checkStream(stream, leaves)]);
  const found = await rootOfProof(leaves, checkpoint.size, proof.path.map((one) => hashOf(one, "the path")));
  if (!equal(found, checkpoint.root)) throw new Wrong("the log of the checkpoint does not contain the events");
  results.push(["good", `The log ${checkpoint.origin} contains every event below, among its first ${checkpoint.size} events.`]);
  for (const [stream, whole] of complete) {
    results.push(whole ? ["good", `${stream.stream}: complete, nothing of it is missing.`]
      : ["unknown", `${stream.stream}: it contains these events; that there are no others is not proven.`]);
  }
  results.push(await signatureOf(note, proof, given));
  return results;
}

const visible = (text) => text.replace(UNSAFE, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = visible(text);
  if (className) made.className = className;
  return made;
}

function show(proof) {
  for (const stream of proof.streams) {
    const table = element("table");
    const head = table.createTHead().insertRow();
    for (const name of ["event", "time (UTC)", "type", "content"]) head.append(element("th", name));
    const body = table.createTBody();
    for (const event of stream.events) {
      const row = body.insertRow();
      const when = new Date(Number(BigInt(event.time) / 1000000n));
      row.append(element("td", String(event.seq)));
      row.append(element("td", Number.isNaN(when.getTime()) ? event.time : when.toISOString()));
      row.append(element("td", event.type));
      const content = element("td");
      content.append(element("pre", event.data ?? event.base64 ?? `(not shown; commitment ${event.commitment})`));
      row.append(content);
    }
    document.getElementById("streams").append(element("h2", stream.stream), table);
  }
}

// A member that is null counts as one that is left out.
const withoutNull = (_, value) => (value === null ? undefined : value);
const parsed = () => JSON.parse(document.getElementById("proof").textContent, withoutNull);

async function run() {
  const list = document.getElementById("checks");
  let results;
  try {
    if (!globalThis.crypto?.subtle) throw new Error("it has no WebCrypto here; open the page from a file");
    const proof = parsed();
    results = await check(proof, document.getElementById("key").value.trim());
  } catch (error) {
    results = error instanceof Wrong || error instanceof SyntaxError || error instanceof TypeError
      ? [["wrong", `The proof is wrong: ${error.message}.`]]
      : [["unknown", `This browser can't check the proof: ${error.message}.`]];
  }
  list.replaceChildren(...results.map(([verdict, text]) => element("li", text, verdict)));
  document.body.dataset.checked = results.some(([one]) => one === "wrong") ? "wrong"
    : results.some(([one]) => one === "unknown") ? "unknown" : "good";
}

if (globalThis.document) {
  document.getElementById("key").addEventListener("input", run);
  run().then(() => show(parsed())).catch(() => {});
}
