// Makes the page live, foldable by key and quick; everything can be read without it.
"use strict";

const page = document.body.dataset.page;
const $ = (selector, under = document) => under.querySelector(selector);
const all = (selector, under = document) => [...under.querySelectorAll(selector)];

// -- parts of pages, as the server renders them

async function part(address, name) {
  const answer = await fetch(address, { headers: { "x-lllm-part": name } });
  if (!answer.ok) throw new Error(`${answer.status} for ${address}`);
  return new DOMParser().parseFromString(
    name === "rows" ? `<table>${await answer.text()}</table>` : await answer.text(), "text/html");
}

// Puts in what differs, by key, so that what is unfolded, chosen or selected stays as it is.
function merge(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  const known = new Map(all(":scope > [data-key]", old).map((one) => [one.dataset.key, one]));
  let place = old.firstElementChild;
  for (const one of [...fresh.children]) {
    const before = known.get(one.dataset.key);
    if (before === undefined) {
      old.insertBefore(one, place);
      continue;
    }
    known.delete(one.dataset.key);
    if (before.tagName === "DETAILS") one.open = before.open;
    if (before.classList.contains("chosen")) one.classList.add("chosen");
    const fetched = $(":scope > .body:not([data-src])", before);
    const empty = $(":scope > .body[data-src]", one);
    if (fetched && empty) empty.replaceWith(fetched.cloneNode(true));
    if ($("details.annotate[open]", before)) { place = before.nextElementSibling; continue; } // a note is being written
    const box = $(".pick input", one);
    if (box) box.checked = Boolean($(".pick input:checked", before));
    const inside = $("details.below", one);
    if (inside) inside.open = Boolean($("details.below[open]", before));
    if (before.isEqualNode(one)) {
      if (before !== place) old.insertBefore(before, place);
      place = before.nextElementSibling;
    } else {
      if (before === place) place = before.nextElementSibling;
      before.remove();
      old.insertBefore(one, place);
    }
  }
  for (const gone of known.values()) gone.remove();
}

async function fillStep(step) {
  const body = $(":scope > .body[data-src]", step);
  if (!body) return;
  try {
    const found = await part(body.dataset.src, "step");
    body.replaceWith(...found.body.children);
  } catch (error) {
    body.textContent = `This step could not be fetched: ${error.message}`;
  }
  prepare(step);
}

async function fillSums() {
  const sums = $("#sums");
  if (!sums) return;
  sums.setAttribute("aria-busy", "true");
  try {
    const found = await part(sums.dataset.src, "sums");
    sums.replaceChildren(...found.body.childNodes);
  } catch (error) {
    sums.textContent = `The sums could not be fetched: ${error.message}`;
  }
  sums.removeAttribute("aria-busy");
}

// Sums of very many sessions take the server longer than rows: at most a fifth of the time goes to them.
let summing = false;
let sumAgain = false;

async function renewSums() {
  if (summing) { sumAgain = true; return; }
  summing = true;
  const began = performance.now();
  await fillSums();
  setTimeout(() => {
    summing = false;
    if (sumAgain) { sumAgain = false; renewSums(); }
  }, Math.max(1000, 4 * (performance.now() - began)));
}

// -- live

let waiting = 0;
let busy = false;
let again = false;
let missed = null; // what changed while nobody saw the tab

function say(text, on) {
  const live = $("#live");
  live.hidden = false;
  live.classList.toggle("on", on);
  if (live.textContent !== text) live.textContent = text;
}

async function refresh() {
  if (busy) { again = true; return; }
  busy = true;
  try {
    if (page === "sessions") {
      const found = await part(location.href, "rows");
      const fresh = $("tbody", found);
      const list = $("#rows tbody");
      merge(list, fresh);
      if (fresh.children.length || list.children.length) $(".nothing")?.remove();
      renewSums();
    } else if (page === "session") {
      const found = await part(location.href, "session");
      const old = $("#session");
      for (const selector of [".head", ".notes", ".outline", ".transcript"]) {
        const fresh = $(selector, found);
        if (!fresh || !$(selector, old) || $(`${selector} details.annotate[open]`, old) && selector === ".notes") continue;
        if (selector === ".transcript") merge($(selector, old), fresh);
        else if (!$(selector, old).isEqualNode(fresh)) $(selector, old).replaceWith(fresh);
      }
    }
    prepare(document);
  } catch (error) {
    say(`not updated: ${error.message}`, false);
  } finally {
    busy = false;
    if (again) { again = false; setTimeout(refresh, 200); }
  }
}

function concerns(change) {
  if (change.all) return true;
  if (page === "sessions") return true;
  const shown = new Set([document.body.dataset.session]);
  for (const step of all("details.step")) shown.add(step.id.slice(5).replace(/\.\d+$/, ""));
  return change.sessions.some((id) => shown.has(id));
}

function onChange(change) {
  if (!concerns(change)) return;
  if (document.hidden) {
    missed = { all: true, sessions: [], started: change.started + (missed ? missed.started : 0) };
    return;
  }
  const cursor = new URLSearchParams(location.search).has("cursor");
  if (page === "sessions" && (window.scrollY > 200 || cursor) && change.started) {
    waiting += change.started;
    const fresh = $("#fresh");
    fresh.textContent = `${waiting} new ↑`;
    fresh.hidden = false;
    return;
  }
  refresh();
}

function follow() {
  if (page !== "sessions" && page !== "session") return;
  document.addEventListener("visibilitychange", () => {
    if (document.hidden || !missed) return;
    const change = missed;
    missed = null;
    onChange(change);
  });
  const source = new EventSource(`/live?after=${document.body.dataset.position}`);
  source.onopen = () => say("live", true);
  source.onerror = () => say("not connected", false);
  source.onmessage = (message) => onChange(JSON.parse(message.data));
  addEventListener("pagehide", () => source.close());
}

// -- keys

function rows() { return all(page === "session" ? "details.step" : "[data-list=rows] > tr"); }

function choose(step) {
  const list = rows();
  if (!list.length) return;
  const now = list.findIndex((one) => one.classList.contains("chosen"));
  const next = list[Math.max(0, Math.min(list.length - 1, now + step))];
  if (now >= 0) list[now].classList.remove("chosen");
  next.classList.add("chosen");
  next.scrollIntoView({ block: "nearest" });
  (next.tagName === "DETAILS" ? $("summary", next) : $("a", next))?.focus({ preventScroll: true });
}

function nextFailure() {
  const failed = all("details.step.failure");
  if (!failed.length) return;
  const top = failed.find((one) => one.getBoundingClientRect().top > 80) || failed[0];
  top.open = true;
  top.scrollIntoView({ block: "start" });
}

function neighbour(offset) {
  const ids = JSON.parse(sessionStorage.getItem("lllm-list") || "[]");
  const at = ids.indexOf(document.body.dataset.session);
  const other = ids[at + offset];
  if (at >= 0 && other) location.href = `/sessions/${other}`;
}

function foldAll() {
  const steps = all("details.step");
  const open = steps.some((one) => !one.open);
  for (const one of steps) one.open = open;
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    if (button) { const was = button.textContent; button.textContent = "copied"; setTimeout(() => { button.textContent = was; }, 1500); }
    else say("copied", true);
  } catch { say("the browser does not let this page copy", false); }
}

async function copyFrom(link) {
  try {
    const answer = await fetch(link.href);
    const text = await answer.text();
    if (answer.ok) await copy(text, link); else location.href = link.href; // the page says why not
  } catch (error) { say(`not copied: ${error.message}`, false); }
}

let prefix = "";
const KEYS = {
  j: () => choose(1),
  k: () => choose(-1),
  "/": () => $("#words").focus(),
  "?": () => $("#keys").showModal(),
  "[": () => neighbour(-1),
  "]": () => neighbour(1),
  f: nextFailure,
  e: foldAll,
  c: () => document.body.dataset.session && copy(document.body.dataset.session),
  gs: () => { location.href = "/"; },
  gc: () => { location.href = "/cost"; },
  Escape: () => { if (page === "session") location.href = sessionStorage.getItem("lllm-from") || "/"; },
};

addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key === "k") { event.preventDefault(); $("#words").focus(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea, dialog")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "g") { prefix = "g"; setTimeout(() => { prefix = ""; }, 1000); return; }
  const action = KEYS[prefix + event.key] || KEYS[event.key];
  prefix = "";
  if (action) { event.preventDefault(); action(); }
});

// -- at the start

function prepare(under) {
  for (const button of all(".copy[hidden]", under)) button.hidden = false;
}

addEventListener("click", (event) => {
  const button = event.target.closest(".copy");
  if (button) copy(button.dataset.copy, button);
  const from = event.target.closest("[data-copy-from]");
  if (from && !event.ctrlKey && !event.metaKey && !event.shiftKey) { event.preventDefault(); copyFrom(from); }
});
addEventListener("toggle", (event) => {
  if (event.target.matches?.("details.step") && event.target.open) fillStep(event.target);
}, true);

function openNamed() {
  const named = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (named?.tagName === "DETAILS") { named.open = true; named.scrollIntoView(); }
}
addEventListener("hashchange", openNamed);

// An empty field says nothing, so the address does without it.
$("#filters")?.addEventListener("submit", (event) => {
  for (const field of event.target.elements) if (field.name && (!field.value || (field.name === "sort" && field.value === "started"))) field.disabled = true;
});
addEventListener("pageshow", () => all("#filters [disabled]").forEach((one) => { one.disabled = false; }));

if (page === "sessions") {
  sessionStorage.setItem("lllm-from", location.href);
  sessionStorage.setItem("lllm-list", JSON.stringify(rows().map((row) => row.dataset.key)));
  $("#fresh").onclick = () => { location.href = location.pathname + location.search.replace(/([?&])cursor=[^&]*/, "$1"); };
  fillSums();
}
$("#help").hidden = false;
$("#help").onclick = () => $("#keys").showModal();
prepare(document);
openNamed();
follow();
