// Times in the reader's zone, keys, and live numbers over one connection. Every page works without it.
"use strict";
const units = [[86400, "d"], [3600, "h"], [60, "min"]];
function age(seconds) {
  for (const [size, name] of units) if (seconds >= size) return `${Math.floor(seconds / size)} ${name}`;
  return `${Math.max(0, Math.floor(seconds))} s`;
}
function localize(root) {
  for (const time of root.querySelectorAll("time")) {
    const at = new Date(time.dateTime);
    time.textContent = time.classList.contains("ago") ? age((Date.now() - at) / 1000)
      : at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
  }
}
function show(values) {
  for (const place of document.querySelectorAll("[data-value]")) {
    const value = values[place.dataset.value];
    if (value !== undefined && place.textContent !== String(value)) place.textContent = value;
  }
  for (const bar of document.querySelectorAll("[data-progress]")) {
    const [done, total] = (values.running || {})[bar.dataset.progress] || [0, 0];
    bar.hidden = !total;
    if (total) { bar.max = total; bar.value = done; }
  }
}
function listen() {
  const path = document.body.dataset.live;
  if (!path || !window.EventSource) return;
  let source;
  const open = () => {
    if (source || document.hidden) return;
    source = new EventSource(path);
    source.onmessage = (event) => show(JSON.parse(event.data));
  };
  document.addEventListener("visibilitychange", () => {
    if (document.hidden && source) { source.close(); source = undefined; } else open();
  });
  open();
}
let picked = -1, before = "";
function pick(step) {
  const rows = [...document.querySelectorAll("main tbody tr, main .card[data-card]")];
  if (!rows.length) return;
  rows[picked]?.classList.remove("picked");
  picked = Math.min(rows.length - 1, Math.max(0, picked + step));
  rows[picked].classList.add("picked");
  rows[picked].scrollIntoView({ block: "nearest" });
  (rows[picked].querySelector("a, button, input:not([type=hidden])") || rows[picked]).focus({ preventScroll: true });
}
const pages = { t: "/", d: "/decide", i: "/items", o: "/orders", p: "/plan" };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input:not([type=checkbox]):not([type=radio]), select, textarea")) return;
  const first = before;
  before = event.key;
  if (first === "g" && pages[event.key]) { location.href = pages[event.key]; return; }
  if (event.key === "/") { const box = document.querySelector("input[type=search]"); if (box) { event.preventDefault(); box.focus(); } }
  if (event.key === "j") pick(1);
  if (event.key === "k") pick(-1);
  if (event.key === "?") document.getElementById("keys").showModal();
});
document.addEventListener("change", (event) => {
  const all = event.target.closest("[data-all]");
  if (all) for (const box of document.querySelectorAll(`input[name="${all.dataset.all}"]`)) box.checked = all.checked;
});
function hide(image) { if (image.tagName === "IMG") image.classList.add("missing"); }
document.addEventListener("error", (event) => hide(event.target), true);
document.addEventListener("DOMContentLoaded", () => {
  for (const image of document.images) if (image.complete && !image.naturalWidth) hide(image);
  if (matchMedia("(max-width: 700px)").matches) document.querySelector(".menu")?.removeAttribute("open");
  localize(document);
  listen();
  setInterval(() => localize(document), 30000);
});
document.addEventListener("htmx:afterSwap", (event) => localize(event.target));
