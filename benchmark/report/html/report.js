"use strict";
/* The page: a state (what the address keeps), the samples that it selects, and functions that draw them. */

const D = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const METRICS = Object.keys(D.metrics);
const PAGE = 24;
const STATUS = ["ok", "unscorable", "failed"];
const COLOURS = bytes(D.colours);

/* ---------- small helpers ---------- */

/** An element with properties and children; text is never parsed as HTML. */
function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.includes("-") || name === "role") node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const user = (text) => el("bdi", {}, text);
const short = (metric) => D.headings[metric] ?? metric;
const number = (value, sign) => (value == null ? "-" : (sign && value > 0 ? "+" : "") + value.toFixed(3)).replace(/^[+-](?=0\.000$)/, "");
const count = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;

function bytes(base64) {
  return Uint8Array.from(atob(base64 ?? ""), (c) => c.charCodeAt(0));
}

/* ---------- state ---------- */

const prior = bestPrior();
const START = {
  a: 0, b: D.second, m: D.primary, category: "", side: "", size: "",
  length: "", status: "", outcome: "", on: "d", low: "", high: "", q: "", picture: "", sort: "order", page: 1, sample: "",
};
if (START.b < 0) START.b = D.runs.findIndex((run, i) => i > 0 && run.role === "run");
if (START.b < 0) START.b = prior;
const SORTS = {
  order: "as in the data set", loss: "loss first (A - B)", gain: "gain first (A - B)", aworst: "A worst first",
  abest: "A best first", bworst: "B worst first", bbest: "B best first", deaf: "map changes least with the phrase",
};
const OUTCOMES = { "10": "A hits, B misses", "01": "A misses, B hits", "11": "both hit", "00": "both miss" };
let state = { ...START };
let rows = []; // indices of the selected samples, in order

/** What the address says; anything unknown falls back to the start. */
function readAddress() {
  const told = new URLSearchParams(location.hash.slice(1));
  state = { ...START };
  for (const name of Object.keys(START)) {
    if (!told.has(name)) continue;
    const value = told.get(name);
    if (name === "a" || name === "b") {
      const index = D.runs.findIndex((run) => run.key === value);
      if (index >= 0 || (name === "b" && value === "none")) state[name] = index;
    } else if (name === "page") state.page = Math.max(1, parseInt(value, 10) || 1);
    else if (name === "m" ? METRICS.includes(value) : name !== "sort" || value in SORTS) state[name] = value;
  }
}

function writeAddress(push) {
  const told = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (String(value) === String(START[name])) continue;
    told.set(name, name === "a" || name === "b" ? (D.runs[value]?.key ?? "none") : value);
  }
  const hash = "#" + told;
  if (hash === (location.hash || "#")) return;
  history[push ? "pushState" : "replaceState"](null, "", hash);
}

function change(changes, push = false) {
  if (!("page" in changes) && !("sample" in changes)) changes.page = 1;
  state = { ...state, ...changes };
  writeAddress(push);
  show();
}

/* ---------- numbers ---------- */

const value = (run, metric, i) => (run < 0 ? null : D.runs[run].values[metric][i]);
const higher = (metric) => D.metrics[metric].higher;

function difference(metric, i) {
  const a = value(state.a, metric, i), b = value(state.b, metric, i);
  return a === null || b === null ? null : a - b;
}

/** Whether a run finds a sample's region: its maximum is in it or, without top1, the metric is above the median. */
function hit(run, i, limit) {
  const found = value(run, METRICS.includes("top1") ? "top1" : state.m, i);
  if (found === null) return null;
  return higher(state.m) || METRICS.includes("top1") ? found >= limit : found <= limit;
}

function hitLimit() {
  if (METRICS.includes("top1")) return 0.5;
  const all = [state.a, state.b].flatMap((run) => (run < 0 ? [] : D.runs[run].values[state.m])).filter((v) => v !== null);
  return all.sort((x, y) => x - y)[all.length >> 1];
}

function bestPrior() {
  const score = (run) => (run.estimates[D.primary].value ?? -1e9) * (D.metrics[D.primary].higher ? 1 : -1);
  const most = Math.max(...D.runs.map((run) => (run.role === "prior" ? run.counts.ok : 0)));
  let best = -1;
  D.runs.forEach((run, i) => {
    if (i > 0 && run.role === "prior" && run.counts.ok === most && (best < 0 || score(run) > score(D.runs[best]))) best = i;
  });
  return best;
}

/** The run under another phrase that belongs to A. */
function swapped() {
  const found = D.runs.findIndex((run) => run.plain === state.a && run.control === "phrase-swap");
  return found >= 0 ? found : D.runs.findIndex((run) => run.plain === state.a && run.similarity);
}

const similarity = (i) => D.runs[state.b]?.similarity?.[i] ?? null;
const wellKnown = (i) => D.samples.id?.[i] ?? String(i + 1);

const haystacks = [];
function haystack(i) {
  return (haystacks[i] ??= [
    D.samples.id?.[i], D.samples.image?.[i], D.samples.phrase?.[i], D.samples.category[i],
    ...D.runs.flatMap((run) => [run.error?.[i], run.note?.[i]]),
  ].join(" ").toLowerCase());
}

function select() {
  const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
  const low = state.low === "" ? -Infinity : Number(state.low), high = state.high === "" ? Infinity : Number(state.high);
  const limit = hitLimit();
  const measured = { a: (i) => value(state.a, state.m, i), b: (i) => value(state.b, state.m, i), d: (i) => difference(state.m, i) };
  const ranged = state.low !== "" || state.high !== "";
  rows = [];
  for (let i = 0; i < D.n; i++) {
    if (D.runs[state.a].status[i] < 0 && (state.b < 0 || D.runs[state.b].status[i] < 0)) continue;
    if (["category", "side", "size", "length"].some((by) => state[by] && D.samples[by][i] !== state[by])) continue;
    if (state.status) {
      const both = [state.a, state.b].filter((run) => run >= 0).map((run) => D.runs[run].status[i]);
      if (!both.includes(STATUS.indexOf(state.status))) continue;
    }
    if (state.picture && D.samples.picture?.[i] == null) continue;
    if (state.outcome) {
      const a = hit(state.a, i, limit), b = hit(state.b, i, limit);
      if (a === null || b === null || state.outcome !== `${+a}${+b}`) continue;
    }
    if (ranged) {
      const found = (measured[state.on] ?? measured.d)(i);
      if (found === null || found < low || found > high) continue;
    }
    if (words.length && !words.every((word) => haystack(i).includes(word))) continue;
    rows.push(i);
  }
  const sign = higher(state.m) ? 1 : -1;
  const key = {
    loss: (i) => sign * measured.d(i), gain: (i) => -sign * measured.d(i), aworst: (i) => sign * measured.a(i),
    abest: (i) => -sign * measured.a(i), bworst: (i) => sign * measured.b(i), bbest: (i) => -sign * measured.b(i),
    deaf: (i) => -similarity(i),
  }[state.sort];
  const known = { l: measured.d, g: measured.d, a: measured.a, b: measured.b, d: similarity }[state.sort[0]];
  if (!key) return;
  const last = (i) => (known(i) === null ? 1 : 0);
  rows.sort((i, j) => last(i) - last(j) || key(i) - key(j) || i - j);
}

/* ---------- pictures ---------- */

const images = new Map();
function image(index) {
  if (!images.has(index)) {
    const node = new Image();
    node.src = D.images[index].src;
    images.set(index, node.decode().then(() => node, () => null));
  }
  return images.get(index);
}

const heatCache = new Map();
/** A map in colour on a fine grid: interpolated first, then coloured; low values are more transparent. */
function coloured(index) {
  if (heatCache.has(index)) return heatCache.get(index);
  const { w, h, data } = D.maps[index], grey = bytes(data);
  const small = el("canvas", { width: w, height: h }), large = el("canvas", { width: 256, height: Math.max(1, Math.round((256 * h) / w)) });
  const context = small.getContext("2d"), pixels = context.createImageData(w, h);
  grey.forEach((v, k) => pixels.data.set([v, v, v, 255], 4 * k));
  context.putImageData(pixels, 0, 0);
  const fine = large.getContext("2d", { willReadFrequently: true });
  fine.drawImage(small, 0, 0, large.width, large.height);
  const found = fine.getImageData(0, 0, large.width, large.height);
  for (let k = 0; k < found.data.length; k += 4) {
    found.data.set(COLOURS.subarray(4 * found.data[k], 4 * found.data[k] + 4), k);
  }
  fine.putImageData(found, 0, 0);
  if (heatCache.size > 300) heatCache.clear();
  heatCache.set(index, large);
  return large;
}

/** The outline of a mask in run lengths as a path in the pixels of a canvas. */
function outline(mask, width, height) {
  const cells = new Uint8Array(mask.w * mask.h), path = new Path2D();
  let at = 0, on = 0;
  for (const run of mask.runs) {
    cells.fill(on, at, at + run);
    at += run;
    on = 1 - on;
  }
  const cell = (x, y) => (x < 0 || y < 0 || x >= mask.w || y >= mask.h ? 0 : cells[y * mask.w + x]);
  const [left, top, wide, tall] = mask.at;
  const line = (x0, y0, x1, y1) => {
    path.moveTo((left + (wide * x0) / mask.w) * width, (top + (tall * y0) / mask.h) * height);
    path.lineTo((left + (wide * x1) / mask.w) * width, (top + (tall * y1) / mask.h) * height);
  };
  for (let y = 0; y <= mask.h; y++) {
    for (let x = 0; x <= mask.w; x++) {
      if (cell(x, y) !== cell(x, y - 1)) line(x, y, x + 1, y);
      if (cell(x, y) !== cell(x - 1, y)) line(x, y, x, y + 1);
    }
  }
  return path;
}

function layers() {
  const form = Object.fromEntries([...$("layers").querySelectorAll("input")].map((i) => [i.name, i.checked || i.value]));
  for (const name of ["heat", "region", "mask", "peak"]) form[name] = form[name] === true;
  return form;
}

async function draw(canvas) {
  const { run, i } = canvas, picture = D.samples.picture[i], shown = layers();
  const source = D.images[picture], heat = D.runs[run].heats[i];
  const node = source ? await image(picture) : null;
  if (!canvas.isConnected) return;
  const scale = window.devicePixelRatio || 1;
  const width = (canvas.width = Math.max(80, Math.round(canvas.clientWidth * scale)));
  const height = (canvas.height = Math.round(source ? (width * source.h) / source.w : width));
  const pen = canvas.getContext("2d");
  if (node) pen.drawImage(node, 0, 0, width, height);
  const stroke = (path, colour, dash, halo) => {
    pen.setLineDash(dash.map((part) => part * scale));
    for (const [style, thick] of halo ? [["#000a", 3.5], [colour, 1.6]] : [[colour, 1.6]]) {
      pen.strokeStyle = style;
      pen.lineWidth = thick * scale;
      pen.stroke(path);
    }
  };
  if (heat && shown.heat) {
    const [left, top, wide, tall] = heat.at;
    pen.globalAlpha = shown.opacity / 100;
    pen.drawImage(coloured(heat.map), left * width, top * height, wide * width, tall * height);
    pen.globalAlpha = 1;
  }
  if (shown.region) {
    const region = D.runs[run].regions[i] ?? D.samples.region[i] ?? {}, path = new Path2D();
    for (const [left, top, wide, tall] of region.boxes ?? []) path.rect(left * width, top * height, wide * width, tall * height);
    if (region.mask) path.addPath(outline(region.mask, width, height));
    stroke(path, "#fff", [], true);
  }
  if (heat?.mask && shown.mask) stroke(outline(heat.mask, width, height), "#22c7e8", [5, 3], false);
  if (heat?.peak && shown.peak) {
    const path = new Path2D();
    path.arc(heat.peak[0] * width, heat.peak[1] * height, 5 * scale, 0, 7);
    stroke(path, "#ff4fd8", [], true);
  }
}

function redraw() {
  document.querySelectorAll(".view canvas").forEach(draw);
}

/** A picture of one run with its caption; null if the sample has no picture. */
function view(run, i, letter) {
  if (run < 0 || D.samples.picture?.[i] == null || D.runs[run].status[i] < 0) return null;
  const { label, control } = D.runs[run], source = D.images[D.samples.picture[i]];
  const words = [`Map of ${label} for "${given(run, i)}"`, `${state.m} ${number(value(run, state.m, i))}`];
  if (METRICS.includes("top1")) words.push(hit(run, i, 0.5) ? "maximum inside the region" : "maximum outside the region");
  const canvas = el("canvas", { role: "img", "aria-label": words.join("; "), run, i });
  if (source) canvas.style.aspectRatio = `${source.w} / ${source.h}`;
  canvas.onclick = () => open(i);
  const other = given(run, i) !== D.samples.phrase[i];
  const notes = [
    letter ? el("b", {}, `${letter} `) : null, user(label),
    other ? el("span", { className: "bad" }, " was given ", quoted(given(run, i))) : null,
    D.runs[run].heats[i] ? null : " (no map)", control === "image-swap" ? " (another patient's region)" : null,
  ];
  return el("figure", { className: "view" }, canvas, el("figcaption", {}, ...notes));
}

const given = (run, i) => D.runs[run].phrase?.[i] ?? D.samples.phrase?.[i] ?? "";

/* ---------- cards ---------- */

/** The metrics of A and B on a sample, and A - B. */
function numbers(i, runs) {
  const two = runs.length === 2, cell = (text) => el("th", { scope: "col" }, text);
  const body = METRICS.map((metric) => {
    const found = two ? difference(metric, i) : null;
    const better = found && Math.abs(found) > 1e-9 ? ((found > 0) === higher(metric) ? "good" : "bad") : "";
    return el("tr", { className: metric === state.m ? "chosen" : "" },
      el("th", { scope: "row", title: D.metrics[metric].summary }, short(metric)),
      ...runs.map((run) => el("td", {}, number(value(run, metric, i)))),
      two ? el("td", { className: better }, number(found, true)) : null);
  });
  return el("table", { className: "numbers" },
    el("thead", {}, el("tr", {}, el("th"), cell("A"), two ? cell("B") : null, two ? cell("A - B") : null)), el("tbody", {}, ...body));
}

/** The metrics of all runs on a sample, a row for each run. */
function allNumbers(i, runs) {
  const chosen = (metric) => (metric === state.m ? "chosen" : "");
  return el("table", { className: "numbers" },
    el("thead", {}, el("tr", {}, el("th"), ...METRICS.map((m) => el("th", { scope: "col", className: chosen(m), title: D.metrics[m].summary }, short(m))))),
    el("tbody", {}, ...runs.map((run) => el("tr", {}, el("th", { scope: "row" }, user(D.runs[run].label)),
      ...METRICS.map((m) => el("td", { className: chosen(m) }, number(value(run, m, i))))))));
}

/** A phrase in quotation marks that no bidirectional text moves. */
const quoted = (text) => el("span", {}, "“", user(text), "”");
const named = (i) => (D.private ? `sample ${i + 1}` : quoted(D.samples.phrase[i]));

function tags(i) {
  const s = D.samples, side = s.side[i] === "none" ? "no side" : s.side[i];
  return el("p", { className: "soft" }, user(s.category[i]), ` · ${side} · region ${s.size[i]} · ${s.length[i]}`);
}

function problems(i, runs) {
  return runs.filter((run) => D.runs[run].status[i] > 0 || D.runs[run].note?.[i]).map((run) => {
    const { label, status, error, note } = D.runs[run], bad = status[i] > 0;
    return el("p", { className: bad ? "bad" : "soft" }, user(label), bad ? `: ${STATUS[status[i]]} ` : ", note: ", user((bad ? error : note)?.[i] ?? ""));
  });
}

function card(i) {
  const runs = [state.a, state.b].filter((run) => run >= 0);
  const views = runs.map((run, k) => view(run, i, "AB"[k])).filter(Boolean);
  const similar = similarity(i);
  return el("article", { className: "card" },
    el("h3", {}, el("button", { type: "button", onclick: () => open(i) }, named(i))), tags(i), ...problems(i, runs),
    views.length ? el("div", { className: "views" }, ...views) : null,
    !views.length && D.pictured ? el("p", { className: "soft" }, "No picture: this sample is not in the gallery.") : null,
    similar === null ? null : el("p", {}, `Correlation of the two maps: ${number(similar)}`),
    numbers(i, runs));
}

/* ---------- one sample ---------- */

function open(i) {
  change({ sample: wellKnown(i) }, !state.sample);
}

function showSample() {
  const dialog = $("sample"), i = sampleIndex();
  if (i < 0) return dialog.open && dialog.close();
  const place = rows.indexOf(i), runs = [state.a, state.b].filter((run) => run >= 0);
  const rest = D.runs.map((_, run) => run).filter((run) => D.runs[run].status[i] >= 0);
  const step = (by) => el("button", { type: "button", disabled: !(rows[place + by] >= 0), onclick: () => open(rows[place + by]) }, by < 0 ? "← previous" : "next →");
  const alike = D.private ? [] : [...Array(D.n).keys()].filter((k) => D.samples.image[k] === D.samples.image[i]);
  dialog.replaceChildren(
    el("div", { className: "head" }, step(-1), step(1),
      el("span", { className: "soft" }, place < 0 ? "not among the filtered samples" : `${place + 1} of ${rows.length.toLocaleString("en")}`),
      el("button", { type: "button", onclick: () => dialog.close() }, "Close")),
    el("h2", { id: "sample-title" }, named(i)), tags(i),
    D.private ? "" : el("p", { className: "soft" }, "sample ", user(D.samples.id[i]), ", image ", user(D.samples.image[i])),
    ...problems(i, rest),
    D.private ? "" : $("layers"), // the same switches: they return when the dialog closes
    el("div", { className: "views large" }, ...runs.map((run, k) => view(run, i, "AB"[k])).filter(Boolean)),
    el("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "All runs on this sample" }, allNumbers(i, rest)),
    el("div", { className: "others" }, ...rest.filter((run) => !runs.includes(run)).map((run) => view(run, i)).filter(Boolean)),
    alike.length > 1 ? el("h3", {}, `All ${alike.length} phrases of this image`) : "",
    alike.length > 1 ? el("ul", { className: "phrases" }, ...alike.map((k) => el("li", {},
      el("button", { type: "button", disabled: k === i, onclick: () => open(k) }, user(D.samples.phrase[k])),
      el("div", { className: "views" }, ...runs.map((run, letter) => view(run, k, "AB"[letter])).filter(Boolean)),
      el("small", {}, `${short(state.m)}: `, ...runs.map((run, letter) => `${"AB"[letter]} ${number(value(run, state.m, k))} `))))) : "",
  );
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  dialog.querySelectorAll("canvas").forEach(draw);
}

function sampleIndex() {
  if (!state.sample) return -1;
  return D.private ? (Number(state.sample) <= D.n ? Number(state.sample) - 1 : -1) : D.samples.id.indexOf(state.sample);
}

/* ---------- charts ---------- */

function showForest() {
  const [a, b] = [state.a, state.b];
  let found = D.differences.find((d) => d.a === a && d.b === b && d.metric === state.m), sign = 1;
  if (!found) [found, sign] = [D.differences.find((d) => d.a === b && d.b === a && d.metric === state.m), -1];
  if (!found) {
    const why = b < 0 ? "Choose B to compare." : "This pair was not compared by category: gtg-bench compare A B --by-category.";
    return $("forest").replaceChildren(el("p", { className: "soft" }, why));
  }
  const turned = ([by, name, d, low, high, p, n]) => (sign > 0 || d === null
    ? { by, name, d, low, high, p, n } : { by, name, d: -d, low: high === null ? null : -high, high: low === null ? null : -low, p, n });
  const lines = found.rows.map(turned);
  const reach = 1.05 * Math.max(1e-9, ...lines.flatMap((l) => [l.d, l.low, l.high].map((v) => Math.abs(v ?? 0))));
  const place = (v) => `${50 + (50 * v) / reach}%`, body = [];
  let by = "category";
  for (const line of lines) {
    if (line.by !== by) body.push(el("tr", { className: "group" }, el("th", { scope: "rowgroup", colSpan: 5 }, D.by[(by = line.by)])));
    const plot = el("td", { className: "plot" }, mark("zero", { left: "50%" }));
    if (line.low !== null) plot.append(mark("ci", { left: place(line.low), width: `${(50 * (line.high - line.low)) / reach}%` }));
    if (line.d !== null) plot.append(mark("mean", { left: place(line.d) }));
    const clear = line.d && line.p !== null && line.p < 0.05;
    const kind = clear ? ((line.d > 0) === higher(state.m) ? "better" : "worse") : "";
    const limits = line.low === null ? "no CI" : `${number(line.low)} to ${number(line.high)}`;
    body.push(el("tr", { className: `${kind} ${line.name === "all" ? "all" : ""}` },
      el("th", { scope: "row" }, user(line.name === "all" ? "all samples" : line.name)), plot,
      el("td", {}, el("b", {}, number(line.d, true)), " ", el("small", {}, limits)),
      el("td", { className: "p" }, line.p === null ? "-" : line.p < 0.001 ? "<.001" : line.p.toFixed(3)), el("td", {}, String(line.n))));
  }
  const side = higher(state.m) ? "right" : "left", { category, ...rest } = found.families;
  const more = Object.keys(rest).length ? ` and ${Object.values(rest)[0]} by ${Object.keys(rest).map((name) => D.by[name]).join(" and ")}` : "";
  $("forest").replaceChildren(
    el("p", { className: "soft" }, `${state.m}, A - B with 95 % CI; ${side} of the line A is better. Green, red: p < 0.05, Holm-corrected over ${category} comparisons by category${more}.`),
    el("table", { className: "forest" }, el("thead", {}, el("tr", {}, el("th"), el("th"), el("th", { scope: "col" }, "A - B, 95 % CI"),
      el("th", { scope: "col", className: "p" }, "p corr."), el("th", { scope: "col" }, "n"))), el("tbody", {}, ...body)));
}

function mark(className, style) {
  const node = el("i", { className });
  Object.assign(node.style, style);
  return node;
}

let dots = []; // [x, y, sample] of the filtered samples in the chart
function showScatter() {
  const canvas = $("scatter"), figure = canvas.parentElement;
  figure.hidden = state.b < 0;
  if (figure.hidden) return;
  const scale = window.devicePixelRatio || 1, side = Math.round(canvas.clientWidth * scale), pen = canvas.getContext("2d");
  canvas.width = canvas.height = side;
  const all = [...Array(D.n).keys()].filter((i) => difference(state.m, i) !== null);
  const values = all.flatMap((i) => [value(state.a, state.m, i), value(state.b, state.m, i)]);
  const low = values.reduce((x, y) => Math.min(x, y), Infinity), high = values.reduce((x, y) => Math.max(x, y), -Infinity);
  const edge = 38 * scale, place = (v) => edge + ((v - low) / (high - low || 1)) * (side - edge - 10 * scale);
  const style = getComputedStyle(document.documentElement), colour = (name) => style.getPropertyValue(name);
  pen.font = `${12 * scale}px system-ui, sans-serif`;
  pen.strokeStyle = colour("--line");
  pen.lineWidth = scale;
  pen.strokeRect(edge, 10 * scale, side - edge - 10 * scale, side - edge - 10 * scale);
  pen.beginPath();
  pen.moveTo(edge, side - edge);
  pen.lineTo(side - 10 * scale, 10 * scale);
  pen.stroke();
  pen.fillStyle = colour("--soft");
  pen.fillText(low.toFixed(2), edge, side - edge + 16 * scale);
  pen.textAlign = "right";
  pen.fillText(high.toFixed(2), side - 10 * scale, side - edge + 16 * scale);
  pen.fillText(high.toFixed(2), edge - 4 * scale, 20 * scale);
  pen.fillText(low.toFixed(2), edge - 4 * scale, side - edge);
  pen.textAlign = "center";
  pen.fillText(`B: ${short(state.m)}`, (side + edge) / 2, side - 6 * scale);
  pen.save();
  pen.translate(14 * scale, (side - edge) / 2);
  pen.rotate(-Math.PI / 2);
  pen.fillText(`A: ${short(state.m)}`, 0, 0);
  pen.restore();
  const inside = new Set(rows), dot = (i, fill) => {
    const x = place(value(state.b, state.m, i)), y = side - place(value(state.a, state.m, i));
    pen.fillStyle = fill;
    pen.fillRect(x - 1.6 * scale, y - 1.6 * scale, 3.2 * scale, 3.2 * scale);
    return [x / scale, y / scale, i];
  };
  all.filter((i) => !inside.has(i)).forEach((i) => dot(i, colour("--line")));
  pen.globalAlpha = all.length > 1500 ? 0.45 : 0.75;
  dots = all.filter((i) => inside.has(i)).map((i) => dot(i, colour("--accent")));
  pen.globalAlpha = 1;
  const better = dots.filter(([, , i]) => difference(state.m, i) * (higher(state.m) ? 1 : -1) > 1e-9).length;
  const worse = dots.filter(([, , i]) => difference(state.m, i) * (higher(state.m) ? 1 : -1) < -1e-9).length;
  const note = `${count(dots.length, "sample")}: A is better on ${better}, worse on ${worse}. Above the line A is higher. Grey: left out by the filters.`;
  $("scatter-note").textContent = `${note} Select a point to open its sample.`;
  canvas.setAttribute("aria-label", `Scatter plot of ${state.m}, A against B. ${note}`);
}

function nearest(event) {
  let found = null, best = 14 ** 2;
  for (const [x, y, i] of dots) {
    const far = (x - event.offsetX) ** 2 + (y - event.offsetY) ** 2;
    if (far < best) [best, found] = [far, i];
  }
  return found;
}

/* ---------- controls ---------- */

function presets() {
  const deaf = swapped(), none = { category: "", side: "", size: "", length: "", status: "", outcome: "", low: "", high: "", q: "" };
  // what a preset chose as B is given up by the next one
  const back = D.runs[state.b]?.plain === state.a || (state.b === prior && state.sort === "loss" && state.low + state.high) ? { b: START.b } : {};
  const keep = { ...back, outcome: "", low: "", high: "", status: "" };
  const hits = METRICS.includes("top1") ? "hit: the maximum is in the region" : `hit: ${state.m} better than the median of both runs`;
  const list = [
    ["All", { ...back, ...none, picture: "", sort: "order" }, "No filter"],
    ["A worst", { ...keep, sort: "aworst" }, `Lowest quality of A first (${state.m})`],
    ["Biggest gain", { ...keep, sort: "gain" }, "A better than B by most"], ["Biggest loss", { ...keep, sort: "loss" }, "A worse than B by most"],
    ["A hits, B misses", { ...keep, outcome: "10", sort: "gain" }, hits], ["A misses, B hits", { ...keep, outcome: "01", sort: "loss" }, hits],
  ];
  if (state.b < 0) list.length = 2;
  if (prior >= 0 && prior !== state.a) {
    const range = higher(state.m) ? { high: "-0.0001" } : { low: "0.0001" };
    list.push(["The prior wins", { ...keep, b: prior, on: "d", ...range, sort: "loss" }, `B: ${D.runs[prior].label}, which never sees the image`]);
  }
  if (deaf >= 0) list.push(["Ignores the phrase", { ...keep, b: deaf, sort: "deaf" }, "The map hardly changes under another phrase: highest correlation first"]);
  $("presets").replaceChildren(...list.map(([name, changes, title]) => {
    const on = Object.entries(changes).every(([key, wanted]) => state[key] === wanted);
    return el("button", { type: "button", title, onclick: () => change({ ...changes }), "aria-pressed": String(on) }, name);
  }));
}

function options(select, list, chosen) {
  select.replaceChildren(...list.map(([value, text]) => el("option", { value, selected: String(value) === String(chosen) }, text)));
}

function buildFilters() {
  const choice = (name, label, list) => el("label", {}, label, el("select", { name }, ...list.map(([value, text]) => el("option", { value }, text))));
  const all = (list) => [["", "any"], ...list];
  const groups = (by) => all([...D.groups[by], ...[...new Set(D.samples[by])].filter((n) => !D.groups[by].includes(n)).sort()].map((n) => [n, n]));
  $("filters").replaceChildren(
    choice("category", "category", groups("category")), ...["side", "size", "length"].map((by) => choice(by, D.by[by], groups(by))),
    choice("status", "status", all(STATUS.map((s) => [s, s]))), choice("outcome", "outcome", all(Object.entries(OUTCOMES))),
    el("span", { className: "range" }, choice("on", "metric of", [["a", "A"], ["b", "B"], ["d", "A - B"]]),
      el("label", {}, "from", el("input", { type: "number", name: "low", step: "any" })), el("label", {}, "to", el("input", { type: "number", name: "high", step: "any" }))),
    el("label", {}, D.private ? "category contains" : "phrase, id or message contains", el("input", { type: "search", name: "q", autocomplete: "off" })),
    D.pictured ? choice("picture", "pictures", [["", "any"], ["yes", "with pictures"]]) : "",
    choice("sort", "order", Object.entries(SORTS)));
}

function pager(node) {
  const pages = Math.max(1, Math.ceil(rows.length / PAGE)), go = (page) => change({ page });
  const button = (text, label, page, on) => el("button", { type: "button", "aria-label": label, disabled: !on, onclick: () => go(page) }, text);
  const field = el("input", { type: "number", min: 1, max: pages, value: state.page, "aria-label": "Page", onchange: () => go(Math.min(pages, Math.max(1, parseInt(field.value, 10) || 1))) });
  node.replaceChildren(el("span", { className: "count" }, `${rows.length.toLocaleString("en")} of ${count(D.n, "sample")}`),
    button("⇤", "First page", 1, state.page > 1), button("←", "Previous page", state.page - 1, state.page > 1), field, ` of ${pages} `,
    button("→", "Next page", state.page + 1, state.page < pages), button("⇥", "Last page", pages, state.page < pages));
}

/** The filtered rows as CSV; a cell that a spreadsheet would run as a formula starts with an apostrophe. */
function csv() {
  const runs = [state.a, state.b].filter((run) => run >= 0), facts = ["category", "side", "size", "length"];
  const head = [D.private ? "sample" : "sample_id", ...facts, ...(D.private ? [] : ["image_id", "phrase"]),
    ...runs.flatMap((run, k) => [`${"AB"[k]}_run`, `${"AB"[k]}_status`, ...METRICS.map((m) => `${"AB"[k]}_${m}`)])];
  const lines = rows.map((i) => [wellKnown(i), ...facts.map((by) => D.samples[by][i]),
    ...(D.private ? [] : [D.samples.image[i], D.samples.phrase[i]]),
    ...runs.flatMap((run) => [D.runs[run].key, STATUS[D.runs[run].status[i]] ?? "", ...METRICS.map((m) => value(run, m, i))])]);
  const cell = (v) => {
    const text = typeof v === "string" && /^[=+\-@\t\r]/.test(v) ? `'${v}` : String(v ?? "");
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [head, ...lines].map((line) => line.map(cell).join(",")).join("\n") + "\n";
}

function save() {
  const link = el("a", { href: URL.createObjectURL(new Blob(["\ufeff", csv()], { type: "text/csv" })), download: "samples.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function sortBoard(button) {
  const head = button.closest("th"), body = head.closest("table").tBodies[0], column = head.cellIndex;
  const first = button.dataset.sort === "down" ? "descending" : "ascending", now = head.getAttribute("aria-sort");
  const next = !now ? first : now === first ? (first === "ascending" ? "descending" : "ascending") : null; // the third time: as written
  body.original ??= [...body.rows];
  head.parentElement.querySelectorAll("[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
  if (next) head.setAttribute("aria-sort", next);
  const of = (row) => row.cells[column].dataset.value, sign = next === "descending" ? -1 : 1;
  const order = (x, y) => (x === "") - (y === "") || sign * (button.dataset.sort === "text" ? x.localeCompare(y) : x - y);
  body.append(...(next ? [...body.original].sort((x, y) => order(of(x), of(y))) : body.original));
}

/* ---------- everything ---------- */

function show() {
  select();
  state.page = Math.min(state.page, Math.max(1, Math.ceil(rows.length / PAGE)));
  const runs = D.runs.map((run, i) => [i, run.label]);
  options($("bar").a, runs, state.a);
  options($("bar").b, [...runs, [-1, "none"]], state.b);
  options($("bar").m, METRICS.map((m) => [m, m]), state.m);
  for (const field of $("filters").elements) if (field !== document.activeElement) field.value = state[field.name];
  presets();
  showPair();
  showForest();
  showScatter();
  document.querySelectorAll("[data-pager]").forEach(pager);
  $("cards").replaceChildren(...rows.slice((state.page - 1) * PAGE, state.page * PAGE).map(card),
    rows.length ? "" : el("p", {}, "No sample fits these filters. ", el("button", { type: "button", onclick: () => $("presets").firstChild.click() }, "Remove all filters")));
  $("cards").querySelectorAll("canvas").forEach(draw);
  showSample();
}

function showPair() {
  const name = (run) => user(D.runs[run].label), same = state.a === state.b;
  $("pair").replaceChildren("A: ", name(state.a), state.b < 0 ? "" : el("span", {}, "; B: ", name(state.b)), `. ${state.m}: ${D.metrics[state.m].summary}.`,
    same ? el("b", { className: "bad" }, " A and B are the same run.") : "");
}

function start() {
  buildFilters();
  readAddress();
  $("bar").onchange = ({ target }) => change({ [target.name]: target.name === "m" ? target.value : Number(target.value) });
  $("bar").onsubmit = $("filters").onsubmit = (event) => event.preventDefault();
  $("swap").onclick = () => state.b >= 0 && change({ a: state.b, b: state.a });
  $("filters").oninput = ({ target }) => change({ [target.name]: target.value });
  $("layers").oninput = redraw;
  $("csv").onclick = save;
  $("show-help").onclick = () => $("help").showModal();
  $("sample").onclose = () => {
    document.querySelector(".tools").prepend($("layers"));
    if (state.sample) change({ sample: "" });
  };
  for (const dialog of [$("sample"), $("help")]) dialog.onclick = (event) => event.target === dialog && dialog.close();
  $("scatter").onclick = (event) => nearest(event) !== null && open(nearest(event));
  $("scatter").onmousemove = (event) => {
    const i = nearest(event);
    $("scatter").title = i === null ? "" : `${D.samples.phrase?.[i] ?? `sample ${i + 1}`}: A ${number(value(state.a, state.m, i))}, B ${number(value(state.b, state.m, i))}`;
  };
  document.querySelectorAll(".board thead button").forEach((button) => (button.onclick = () => sortBoard(button)));
  document.querySelectorAll("nav a").forEach((link) => (link.onclick = (event) => {
    event.preventDefault(); // the address keeps the view
    document.querySelector(link.getAttribute("href")).scrollIntoView();
  }));
  addEventListener("popstate", () => (readAddress(), show()));
  addEventListener("hashchange", () => (readAddress(), show()));
  let waiting;
  addEventListener("resize", () => (clearTimeout(waiting), (waiting = setTimeout(() => (showScatter(), redraw()), 150))));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showScatter);
  addEventListener("keydown", onKey);
  show();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "checkbox") return;
  if (event.target.closest?.(".scroll") && event.key.startsWith("Arrow")) return; // scrolls the table
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key], layer = { m: "heat", r: "region", k: "mask", x: "peak" }[event.key];
  if ($("help").open) return;
  if (by && $("sample").open) {
    const next = rows[rows.indexOf(sampleIndex()) + by];
    if (next >= 0) open(next);
  } else if (by) {
    const page = state.page + by;
    if (page >= 1 && (page - 1) * PAGE < rows.length) change({ page });
  } else if (layer) $("layers").querySelector(`[name=${layer}]`).click();
  else if (event.key === "s") $("swap").click();
  else if (event.key === "?") $("help").showModal();
  else if (event.key === "/" && !$("sample").open) {
    event.preventDefault();
    $("filters").q.focus();
  }
}

start();
