"use strict";
const COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7f7f7f"];
const runs = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

// Search: every word must occur in an item's words.
const items = [...document.querySelectorAll(".item")];
function search() {
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const item of items) {
    item.hidden = !words.every((word) => item.dataset.words.includes(word));
    shown += !item.hidden;
  }
  byId("shown").textContent = words.length ? `${shown} of ${items.length} shown` : "";
}
byId("search").addEventListener("input", search);

// Sorting: by numbers where all cells of a column are numbers, else by text; empty cells last.
function value(row, column) {
  const cell = row.cells[column];
  return cell.dataset.value ?? cell.textContent.trim();
}
for (const button of document.querySelectorAll(".sortable button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement;
    const descending = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentElement.cells) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const body = head.closest("table").tBodies[0];
    const rows = [...body.rows].map((row) => [value(row, head.cellIndex), row]);
    const known = rows.filter(([text]) => text && text !== "–");
    const numeric = known.every(([text]) => !isNaN(Number(text)));
    known.sort(([a], [b]) => (numeric ? Number(a) - Number(b) : a.localeCompare(b, undefined, { numeric: true })));
    if (descending) known.reverse();
    const empty = rows.filter(([text]) => !text || text === "–");
    body.append(...[...known, ...empty].map(([, row]) => row));
  });
}

// Curves.
const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 340, LEFT = 62, RIGHT = 14, TOP = 16, BOTTOM = 34;
function element(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, given] of Object.entries(attributes)) made.setAttribute(key, given);
  if (text !== undefined) made.textContent = text;
  return made;
}
function ticks(low, high, count) {
  const raw = (high - low) / count || 1;
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * unit).find((s) => s >= raw);
  const found = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-9; tick += step) found.push(tick);
  return found;
}
const short = (x) => Number(x.toPrecision(3)).toLocaleString("en", { maximumSignificantDigits: 4 });

function chosen() {
  return [...document.querySelectorAll("[data-run]:checked")].map((box) => Number(box.dataset.run));
}
function draw() {
  const metric = byId("metric").value, log = byId("log").checked;
  const curves = chosen()
    .map((i, order) => ({ name: runs[i].name, color: COLORS[order % COLORS.length], points: runs[i].series[metric] || [] }))
    .map((curve) => ({ ...curve, points: curve.points.filter(([, y]) => !log || y > 0) }))
    .filter((curve) => curve.points.length);
  const chart = byId("chart"), WIDTH = Math.max(chart.clientWidth, 320);
  chart.replaceChildren();
  byId("legend").replaceChildren(...curves.map((curve) => {
    const entry = document.createElement("span"), line = document.createElement("i");
    line.style.background = curve.color;
    entry.append(line, curve.name);
    return entry;
  }));
  const svg = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}` });
  chart.append(svg);
  if (!curves.length) {
    svg.append(element("text", { x: LEFT, y: HEIGHT / 2 }, "No chosen run has this metric."));
    return;
  }
  const all = curves.flatMap((curve) => curve.points), warp = log ? Math.log10 : (y) => y;
  const xs = all.map(([x]) => x), ys = all.map(([, y]) => warp(y));
  const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const place = ([x, y]) => [
    LEFT + ((x - x0) / (x1 - x0 || 1)) * (WIDTH - LEFT - RIGHT),
    HEIGHT - BOTTOM - ((warp(y) - y0) / (y1 - y0 || 1)) * (HEIGHT - TOP - BOTTOM),
  ];
  for (const tick of ticks(y0, y1, 5)) {
    const real = log ? 10 ** tick : tick, [, y] = place([x0, real]);
    svg.append(element("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y, y2: y }));
    svg.append(element("text", { x: LEFT - 8, y: y + 4, "text-anchor": "end" }, short(real)));
  }
  for (const tick of ticks(x0, x1, 6)) {
    const [x] = place([tick, log ? 10 ** y0 : y0]);
    svg.append(element("text", { x, y: HEIGHT - 12, "text-anchor": "middle" }, short(tick)));
  }
  for (const curve of curves) {
    const path = curve.points.map((point) => place(point).map((c) => c.toFixed(1)).join(",")).join(" ");
    svg.append(element("polyline", { points: path, fill: "none", stroke: curve.color, "stroke-width": 2 }));
  }
  const dot = element("circle", { r: 5, fill: "none", "stroke-width": 2.5, visibility: "hidden" });
  const tip = element("text", { class: "tip", visibility: "hidden" });
  svg.append(dot, tip);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect(), scale = WIDTH / box.width;
    const mx = (event.clientX - box.left) * scale, my = (event.clientY - box.top) * scale;
    let best = null;
    for (const curve of curves) for (const point of curve.points) {
      const [x, y] = place(point), far = (x - mx) ** 2 + (y - my) ** 2;
      if (!best || far < best.far) best = { far, x, y, point, curve };
    }
    dot.setAttribute("cx", best.x);
    dot.setAttribute("cy", best.y);
    dot.setAttribute("stroke", best.curve.color);
    const right = best.x > WIDTH / 2;
    tip.setAttribute("x", best.x + (right ? -10 : 10));
    tip.setAttribute("y", Math.max(best.y - 10, 14));
    tip.setAttribute("text-anchor", right ? "end" : "start");
    tip.textContent = `${best.curve.name}, step ${best.point[0].toLocaleString("en")}: ${best.point[1].toPrecision(5)}`;
    for (const part of [dot, tip]) part.setAttribute("visibility", "visible");
  });
}
if (byId("metric")) {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.series)))].sort();
  byId("metric").append(...names.map((name) => new Option(name, name, name === "train/loss", name === "train/loss")));
  for (const control of [byId("metric"), byId("log"), ...document.querySelectorAll("[data-run]")])
    control.addEventListener("change", draw);
  window.addEventListener("resize", draw);
  draw();
}
if (window.matchMedia("(prefers-reduced-motion: reduce)").matches)
  for (const video of document.querySelectorAll("video")) video.autoplay = false;
