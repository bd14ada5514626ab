"use strict";
// The browsable page of evidence. All text from data enters by textContent; evidence of one sample is a script that
// calls evqaSample, because a page opened from a file may not fetch. Masks are COCO run lengths, decoded here.

const INDEX = JSON.parse(document.getElementById("index").textContent);
const FILL_ALPHA = 0.5;
const HELD_ALPHA = 0.22; // a mask shown on a frame that it was not computed for
const OUTLINE = 2; // CSS pixels
const GOLD_ON_VIDEO = "#ffc400";
const RUNS_ON_VIDEO = ["#3d9bff", "#ff5db1", "#2fe0b5", "#ff8a3d", "#a98bff", "#d5dbe2"];
const BY_ID = new Map(INDEX.samples.map((row) => [row.id, row]));

const $ = (id) => document.getElementById(id);
const state = { shown: [], row: null, evidence: null, runs: [0, -1], origin: null, frame: 0, second: 0 };

// ---------------------------------------------------------------- elements

function make(tag, options = {}, ...children) {
  const element = document.createElement(tag);
  const { text, run, ...attributes } = options;
  if (text !== undefined) element.textContent = text;
  if (run !== undefined) element.style.setProperty("--run", runColour(run));
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function makeSvg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function fillSelect(select, choices) {
  select.replaceChildren(...choices.map(([value, text]) => make("option", { value, text })));
}

const runColour = (run) => `var(--run-${run % RUNS_ON_VIDEO.length})`;
const letter = (index) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[index] ?? `${index + 1}`;
const percent = (fraction) => (fraction === null || fraction === undefined ? "\u2013" : (100 * fraction).toFixed(1));
const clockText = (second) => `${second.toFixed(2)} s`;
const spanText = (span) => `${+span[0].toFixed(2)}\u2013${+span[1].toFixed(2)} s`;

// ---------------------------------------------------------------- masks

/** Run lengths of COCO's compressed text: column-major, background first. */
function decodeCounts(text) {
  const counts = [];
  for (let position = 0; position < text.length; ) {
    let value = 0;
    let shift = 0;
    let code = 0;
    do {
      code = text.charCodeAt(position++) - 48;
      value |= (code & 31) << shift;
      shift += 5;
    } while (code & 32);
    if (code & 16 && shift < 32) value |= -1 << shift;
    counts.push(counts.length > 2 ? value + counts[counts.length - 2] : value);
  }
  return counts;
}

const shapes = new Map(); // masks at the size of the screen, the latest few
const MAX_SHAPES = 16;

/** A mask as an opaque shape on a canvas of the given size. */
function shapeOf(masks, mask, width, height) {
  const key = `${masks.size} ${width} ${height} ${mask.counts}`;
  const found = shapes.get(key) ?? drawShape(masks.size, mask.counts, width, height);
  shapes.delete(key);
  shapes.set(key, found);
  if (shapes.size > MAX_SHAPES) shapes.delete(shapes.keys().next().value);
  return found;
}

function drawShape([rows, columns], counts, width, height) {
  const whole = Object.assign(document.createElement("canvas"), { width: columns, height: rows });
  const image = new ImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer);
  let start = 0;
  decodeCounts(counts).forEach((count, index) => {
    const end = start + count;
    if (index % 2) for (let at = start; at < end; at++) pixels[(at % rows) * columns + ((at / rows) | 0)] = 0xffffffff;
    start = end;
  });
  whole.getContext("2d").putImageData(image, 0, 0);
  const shape = Object.assign(document.createElement("canvas"), { width, height });
  const context = shape.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(whole, 0, 0, width, height);
  return shape;
}

/** The mask to show at a frame: its own, or the nearest one before it where masks were not computed for every frame. */
function maskAt(masks, frame) {
  if (!masks) return null;
  if (!masks.computed) return frame in masks.frames ? { counts: masks.frames[frame], held: false, from: frame } : null;
  const before = masks.computed.filter((index) => index <= frame);
  const from = before.length ? before[before.length - 1] : masks.computed[0];
  return from in masks.frames ? { counts: masks.frames[from], held: from !== frame, from } : null;
}

const layer = document.createElement("canvas");

/** Draw on the layer, in one colour, what `draw` draws in any, and put it on the context. */
function paintLayer(context, colour, draw) {
  const { width, height } = context.canvas;
  Object.assign(layer, { width, height }); // this clears it
  const ink = layer.getContext("2d");
  draw(ink);
  ink.globalCompositeOperation = "source-in";
  ink.fillStyle = colour;
  ink.fillRect(0, 0, width, height);
  context.drawImage(layer, 0, 0);
}

function paintFill(context, masks, frame, colour) {
  const mask = maskAt(masks, frame);
  if (!mask) return;
  const shape = shapeOf(masks, mask, context.canvas.width, context.canvas.height);
  context.globalAlpha = mask.held ? HELD_ALPHA : FILL_ALPHA;
  paintLayer(context, colour, (ink) => ink.drawImage(shape, 0, 0));
  context.globalAlpha = 1;
  if (!mask.held) paintRing(context, shape, colour, window.devicePixelRatio || 1);
}

function paintOutline(context, masks, frame) {
  const mask = maskAt(masks, frame);
  if (!mask) return;
  const shape = shapeOf(masks, mask, context.canvas.width, context.canvas.height);
  const thick = OUTLINE * (window.devicePixelRatio || 1);
  paintRing(context, shape, "#000000", thick + 1);
  paintRing(context, shape, GOLD_ON_VIDEO, thick);
}

/** The pixels just outside a shape: the shape shifted to eight sides, less the shape. */
function paintRing(context, shape, colour, thick) {
  paintLayer(context, colour, (ink) => {
    for (let side = 0; side < 8; side++) {
      const angle = (side * Math.PI) / 4;
      ink.drawImage(shape, Math.round(thick * Math.cos(angle)), Math.round(thick * Math.sin(angle)));
    }
    ink.globalCompositeOperation = "destination-out";
    ink.drawImage(shape, 0, 0);
  });
}

function fitCanvas(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  const height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
}

function paint() {
  const { evidence, frame } = state;
  ["a", "b"].forEach((side, slot) => {
    const run = state.runs[slot];
    const canvas = $(`overlay-${side}`);
    if (slot === 1 && run < 0) return;
    fitCanvas(canvas);
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.clearRect(0, 0, canvas.width, canvas.height);
    canvas.dataset.frame = frame;
    if (!evidence) return;
    const predicted = evidence.runs[run]?.masks;
    if ($("show-predicted").checked && predicted) {
      paintFill(context, predicted, frame, RUNS_ON_VIDEO[run % RUNS_ON_VIDEO.length]);
    }
    if ($("show-gold").checked) paintOutline(context, evidence.gold, frame);
    $(`panel-${side}`).querySelector(".panel-note").textContent = maskNote(evidence, predicted, frame);
  });
  if (state.runs[1] >= 0 && video.readyState >= 2) {
    const mirror = $("mirror");
    fitCanvas(mirror);
    mirror.getContext("2d").drawImage(video, 0, 0, mirror.width, mirror.height);
  }
}

function maskNote(evidence, predicted, frame) {
  if (!predicted) return evidence.gold ? "no masks" : "";
  const mask = maskAt(predicted, frame);
  return mask?.held ? `mask of frame ${mask.from}; none was computed for frame ${frame}` : "";
}

// ---------------------------------------------------------------- time

const video = $("video");

/** The last frame that starts at or before a second of the sample's clock. */
function frameAt(second) {
  const times = state.evidence?.video?.times ?? [0];
  let low = 0;
  let high = times.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (times[middle] <= second + 0.001) low = middle;
    else high = middle - 1;
  }
  return low;
}

function duration() {
  return state.evidence?.video?.duration || 1;
}

function showTime(second) {
  state.second = Math.min(Math.max(0, second), duration());
  state.frame = frameAt(state.second);
  const share = `${(100 * state.second) / duration()}%`;
  $("playhead").style.left = share;
  const count = state.evidence?.video?.times.length ?? 0;
  const text = `${clockText(state.second)} of ${clockText(duration())} \u00b7 frame ${state.frame} of ${count}`;
  $("clock").textContent = text;
  $("scrub").value = state.second;
  $("scrub").setAttribute("aria-valuetext", text);
  paint();
}

/** Follow the frames that are really on the screen; without requestVideoFrameCallback, follow the clock. */
function follow() {
  if (!("requestVideoFrameCallback" in video)) {
    showTime(video.currentTime - (state.origin ?? 0));
    requestAnimationFrame(follow);
    return;
  }
  video.requestVideoFrameCallback((_now, frame) => {
    if (state.evidence) {
      // The first frame is time 0 of a sample, whatever its stamp in the file.
      if (state.origin === null) state.origin = frame.mediaTime;
      showTime(frame.mediaTime - state.origin);
    }
    follow();
  });
}

function seek(second) {
  const { evidence } = state;
  // Before the first frame is on the screen, its stamp is not known.
  if (!evidence?.video || (state.origin === null && "requestVideoFrameCallback" in video)) return;
  const times = evidence.video.times;
  const frame = frameAt(Math.min(Math.max(0, second), duration()));
  const end = times[frame + 1] ?? duration();
  video.currentTime = (state.origin ?? 0) + (times[frame] + end) / 2; // mid-frame, safe against rounding
}

function step(frames) {
  const times = state.evidence?.video?.times;
  if (!times) return;
  video.pause();
  seek(times[Math.min(Math.max(0, state.frame + frames), times.length - 1)]);
}

function togglePlay() {
  if (!state.evidence?.video) return;
  if (video.paused) video.play().catch((error) => notice(`The video does not play: ${error.message}`));
  else video.pause();
}

// ---------------------------------------------------------------- one sample

const waiting = new Map();
window.evqaSample = (evidence) => waiting.get(evidence.n)?.(evidence);

function loadEvidence(row) {
  return new Promise((resolve, reject) => {
    const script = make("script", { src: `report_files/samples/${row.file}` });
    const finish = (action) => (value) => {
      waiting.delete(row.n);
      script.remove();
      action(value);
    };
    waiting.set(row.n, finish(resolve));
    script.onerror = finish(() => reject(new Error(`report_files/samples/${row.file} is missing beside this page`)));
    document.head.append(script);
  });
}

function notice(text) {
  $("s-notice").textContent = text;
  $("s-notice").hidden = !text;
}

async function openSample(row) {
  state.row = row;
  state.evidence = null;
  clearSample(row);
  markCurrent();
  let evidence = null;
  try {
    evidence = await loadEvidence(row);
  } catch (error) {
    if (state.row === row) notice(error.message);
    return;
  }
  if (state.row !== row) return;
  state.evidence = evidence;
  $("scrub").max = duration();
  $("scrub").step = "any";
  notice(evidence.notes.join("\n"));
  loadVideo(evidence.video);
  showRuns();
  showTime(0);
}

function clearSample(row) {
  loadVideo(null);
  notice("");
  document.title = `${row.id} \u2013 ${INDEX.title}`;
  $("s-meta").textContent = metaText(row);
  $("s-question").textContent = row.question;
  for (const id of ["s-options", "lanes", "replies"]) $(id).replaceChildren();
  paint();
}

function metaText(row) {
  const tags = Object.entries(row.tags).map(([key, value]) => `${key} ${value}`);
  return [row.id, row.question_type, row.source, ...tags].filter(Boolean).join(" \u00b7 ");
}

function loadVideo(source) {
  video.pause();
  state.origin = null;
  if (video.src.startsWith("blob:")) URL.revokeObjectURL(video.src);
  for (const screen of document.querySelectorAll(".screen")) {
    screen.style.setProperty("--aspect", source ? source.width / source.height : 16 / 9);
  }
  if (!source) {
    video.removeAttribute("src");
    video.load();
    return;
  }
  video.src = source.src;
}

/** A server that cannot send parts of a file makes a video that cannot be sought: take it as a whole then. */
async function takeWhole(source) {
  try {
    const reply = await fetch(source.src);
    if (!reply.ok) throw new Error(`the server answered ${reply.status}`);
    const whole = URL.createObjectURL(await reply.blob());
    if (state.evidence?.video !== source) return URL.revokeObjectURL(whole);
    state.origin = null;
    video.src = whole;
  } catch (error) {
    notice(`The video does not load: ${error.message}`);
  }
}

function onMetadata() {
  video.playbackRate = Number($("speed").value);
  const isStuck = video.seekable.length === 0 || video.seekable.end(0) === 0;
  const source = state.evidence?.video;
  if (isStuck && source && location.protocol.startsWith("http") && !video.src.startsWith("blob:")) takeWhole(source);
}

function showRuns() {
  const { evidence } = state;
  const [a, b] = state.runs;
  const shown = [a, b].filter((run) => run >= 0);
  $("stage").classList.toggle("two", b >= 0);
  $("panel-b").hidden = b < 0;
  ["a", "b"].forEach((side, slot) => {
    const run = state.runs[slot];
    if (run < 0) return;
    const panel = $(`panel-${side}`);
    panel.style.setProperty("--run", runColour(run));
    panel.querySelector(".panel-name").textContent = INDEX.runs[run];
    document.documentElement.style.setProperty(`--${side}`, runColour(run));
  });
  if (b < 0) document.documentElement.style.removeProperty("--b");
  if (!evidence) return;
  showOptions(evidence, shown);
  showLanes(evidence, shown);
  $("replies").replaceChildren(...shown.map((run) => replyCard(evidence, run)));
  paint();
}

function showOptions(evidence, shown) {
  const rows = evidence.options.map((text, index) => {
    const isGold = index === evidence.answer;
    const item = make("li", { class: isGold ? "gold" : null });
    item.append(make("span", { class: "letter", text: letter(index) }), make("span", { text }));
    if (isGold) item.append(make("span", { class: "tag gold", text: "\u2713 right answer" }));
    for (const run of shown) {
      if (evidence.runs[run]?.answer === index) {
        item.append(make("span", { class: "tag run", run, text: `\u25cf ${INDEX.runs[run]}` }));
      }
    }
    return item;
  });
  $("s-options").replaceChildren(...rows);
}

function showLanes(evidence, shown) {
  const lanes = [lane("Gold", evidence.spans, "var(--gold)", "gold evidence", "not annotated")];
  for (const run of shown) {
    const result = evidence.runs[run];
    const name = INDEX.runs[run];
    lanes.push(lane(name, result?.spans ?? null, runColour(run), `evidence by ${name}`, "none in the reply"));
    if (result?.j) lanes.push(graphLane(result.j, evidence, run));
  }
  lanes.push([make("span"), ticks()]);
  $("lanes").replaceChildren(...lanes.flat());
  fitRail();
}

function lane(name, spans, colour, label, absent) {
  const track = make("div", { class: "track" });
  track.style.setProperty("--run", colour);
  if (spans === null) track.append(make("span", { class: "none", text: absent }));
  else if (!spans.length) track.append(make("span", { class: "none", text: "no span" }));
  for (const span of spans ?? []) {
    const bar = make("button", { type: "button", class: "span", title: `${label}: ${spanText(span)}` });
    bar.setAttribute("aria-label", `${label}, ${spanText(span)}: go there`);
    bar.dataset.start = span[0];
    bar.dataset.end = span[1];
    const left = Math.min(100, (100 * span[0]) / duration());
    bar.style.left = `${left}%`;
    bar.style.width = `${Math.min(100 - left, (100 * (span[1] - span[0])) / duration())}%`;
    track.append(bar);
  }
  const title = make("span", { class: "lane-name", text: name, title: name });
  title.style.setProperty("--run", colour);
  return [title, track];
}

function graphLane(graph, evidence, run) {
  const times = evidence.video?.times ?? [];
  const lines = [];
  let points = [];
  graph.frames.forEach((frame, at) => {
    if (at && frame - graph.frames[at - 1] > graph.stride) points = [];
    if (!points.length) lines.push(points);
    points.push(`${(100 * (times[frame] ?? 0)) / duration()},${38 - 36 * graph.values[at]}`);
  });
  const shapes = lines.map((line) => makeSvg("polyline", { points: (line.length > 1 ? line : [...line, ...line]).join(" ") }));
  const chart = makeSvg("svg", { viewBox: "0 0 100 40", preserveAspectRatio: "none", "aria-hidden": "true" }, ...shapes);
  const about = "J (overlap of predicted and gold mask, 0 to 1) at each frame where either has a pixel";
  const track = make("div", { class: "track graph", run, title: about }, chart);
  const title = make("span", { class: "lane-name", run, text: "J per frame", title: about });
  return [title, track];
}

function ticks() {
  const row = make("div", { class: "ticks" });
  const step = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800].find((size) => duration() / size <= 8) ?? 3600;
  for (let second = 0; second <= duration() + 1e-6; second += step) {
    const tick = make("span", { text: `${+second.toFixed(1)} s` });
    tick.style.left = `${(100 * second) / duration()}%`;
    if (second > 0 && second < 0.94 * duration()) tick.style.transform = "translateX(-50%)";
    row.append(tick);
  }
  return row;
}

function fitRail() {
  const bottom = $("rail").getBoundingClientRect().bottom;
  const top = $("scrub").getBoundingClientRect().bottom;
  $("playhead").style.setProperty("--rail", `${Math.max(0, bottom - top - 18)}px`);
}

function replyCard(evidence, run) {
  const result = evidence.runs[run];
  const card = make("section", { class: "reply", run }, make("h3", { text: INDEX.runs[run] }));
  if (!result) {
    card.append(make("p", { class: "notice", text: "This run has no prediction for this sample." }));
    return card;
  }
  if (result.status === "failed") card.append(make("p", { class: "notice", text: `Failed: ${result.error}` }));
  card.append(factList(result, evidence.answer));
  for (const turn of result.turns) {
    const cut = turn.finish === "stop" ? "" : ` (ended by ${turn.finish})`;
    card.append(make("h4", { text: `Reply${cut}` }), make("pre", { class: "raw", text: turn.reply, tabindex: "0" }));
    const prompt = make("pre", { text: turn.prompt, tabindex: "0" });
    card.append(make("details", {}, make("summary", { text: "Prompt" }), prompt));
  }
  return card;
}

function factList(result, gold) {
  const facts = make("dl", { class: "facts" });
  const add = (name, value) => facts.append(make("div", {}, make("dt", { text: name }), make("dd", { text: value })));
  const verdict = gold === null ? "" : result.answer === gold ? ", right" : ", wrong";
  add("answer", result.answer === null ? "none" : `${letter(result.answer)}${verdict}`);
  add("spans", result.spans === null ? "none" : result.spans.map(spanText).join(", ") || "says none");
  for (const [key, value] of Object.entries(result.scores)) add(INDEX.metrics[key]?.one ?? key, percent(value));
  if (result.expressions?.length) add("objects", result.expressions.join("; "));
  const rules = Object.entries(result.rules ?? {}).map(([field, rule]) => `${field}: ${rule}`);
  if (rules.length) add("read by the rule", rules.join(", "));
  if (result.seconds) add("took", `${result.seconds.toFixed(1)} s`);
  return facts;
}

// ---------------------------------------------------------------- list and filters

function isShown(row) {
  const text = $("f-text").value.trim().toLowerCase();
  if (text && !row.text.includes(text)) return false;
  if ($("f-type").value && row.question_type !== $("f-type").value) return false;
  for (const select of $("f-tags").querySelectorAll("select")) {
    if (select.value && row.tags[select.dataset.tag] !== select.value) return false;
  }
  return hasResult(row, $("f-result").value, Number($("f-run").value));
}

function hasResult(row, wanted, run) {
  const result = row.runs[run];
  if (wanted === "") return true;
  if (wanted === "disagree") return new Set(row.runs.map((each) => each?.right === true)).size > 1;
  if (wanted === "failed") return !result || result.status === "failed";
  if (wanted === "silent") return result?.status === "ok" && result.answer === null;
  return Boolean(result) && result.right === (wanted === "right");
}

function sorted(rows) {
  const [kind, metric] = $("f-sort").value.split(":");
  if (kind !== "worst") return rows;
  const run = Number($("f-run").value);
  const value = (row) => row.runs[run]?.scores[metric] ?? Infinity; // without a score: last
  return [...rows].sort((a, b) => value(a) - value(b) || a.n - b.n);
}

function applyFilters() {
  state.shown = sorted(INDEX.samples.filter(isShown));
  const total = INDEX.samples.length;
  const noun = total === 1 ? "sample" : "samples";
  $("count").textContent = state.shown.length === total ? `${total} ${noun}` : `${state.shown.length} of ${total} ${noun}`;
  $("list").replaceChildren(...state.shown.map(listItem));
  markCurrent();
}

function listItem(row) {
  const marks = row.runs.map((result, run) => runMark(result, run));
  const meta = make("span", { class: "m" }, make("span", { text: row.id }), ...marks);
  return make("li", {}, make("a", { href: `#${encodeURIComponent(row.id)}` }, make("span", { class: "q", text: row.question }), meta));
}

function runMark(result, run) {
  const words = { true: ["\u2713", "right"], false: ["\u2717", "wrong"] };
  const [glyph, word] = result?.status === "failed" || !result ? ["!", "failed"] : words[result.right] ?? ["\u2013", "no answer key"];
  const scores = INDEX.sorts.filter((key) => result?.scores[key] !== undefined && result.scores[key] !== null);
  const numbers = scores.map((key) => (100 * result.scores[key]).toFixed(0)).join("/");
  const title = `${INDEX.runs[run]}: ${word}${scores.map((key) => `, ${INDEX.metrics[key].one} ${percent(result.scores[key])}`).join("")}`;
  const dot = make("i", { class: "dot", run });
  dot.style.marginRight = ".25rem";
  return make("span", { class: `mark ${word}`, title, "aria-label": title, role: "img" }, dot, `${glyph} ${numbers}`);
}

function markCurrent() {
  const current = state.row ? `#${encodeURIComponent(state.row.id)}` : null;
  for (const link of $("list").querySelectorAll("a")) {
    if (link.getAttribute("href") === current) {
      link.setAttribute("aria-current", "true");
      scrollListTo(link);
    } else link.removeAttribute("aria-current");
  }
  const at = state.shown.indexOf(state.row);
  $("previous").disabled = at === 0 || !state.shown.length;
  $("next").disabled = at === state.shown.length - 1 || !state.shown.length;
  const first = state.row ?? state.shown[0] ?? INDEX.samples[0];
  $("nav-samples").setAttribute("href", first ? `#${encodeURIComponent(first.id)}` : "#");
}

/** Scroll the list, and nothing around it, until a link is in view. */
function scrollListTo(link) {
  const list = $("list").getBoundingClientRect();
  const box = link.getBoundingClientRect();
  if (box.top < list.top) $("list").scrollTop += box.top - list.top;
  else if (box.bottom > list.bottom) $("list").scrollTop += box.bottom - list.bottom;
}

/** Go to the next or previous sample of the filtered list; from a sample outside of it, to its start. */
function move(by) {
  const at = state.shown.indexOf(state.row);
  const row = at < 0 ? state.shown[0] : state.shown[at + by];
  if (row) location.hash = encodeURIComponent(row.id);
}

function setUpFilters() {
  fillSelect($("f-run"), INDEX.runs.map((name, run) => [run, name]));
  const results = [["", "all"], ["right", "right"], ["wrong", "wrong"], ["silent", "no answer read"], ["failed", "failed or absent"]];
  if (INDEX.runs.length > 1) results.push(["disagree", "runs disagree"]);
  fillSelect($("f-result"), results);
  const types = distinct(INDEX.samples.map((row) => row.question_type));
  fillSelect($("f-type"), [["", "all"], ...types.map((type) => [type, type])]);
  $("f-type").parentElement.hidden = types.length < 2;
  for (const tag of distinct(INDEX.samples.flatMap((row) => Object.keys(row.tags)))) {
    const values = distinct(INDEX.samples.map((row) => row.tags[tag]));
    if (values.length < 2 || values.length > 40) continue;
    const select = make("select", { "data-tag": tag });
    fillSelect(select, [["", "all"], ...values.map((value) => [value, value])]);
    $("f-tags").append(make("label", { text: `${tag[0].toUpperCase()}${tag.slice(1)} ` }, select));
  }
  const worst = INDEX.sorts.map((key) => [`worst:${key}`, `worst ${INDEX.metrics[key].one} first`]);
  $("legend").textContent = INDEX.sorts.length ? `marks: ${INDEX.sorts.map((key) => INDEX.metrics[key].one).join(" / ")} in %` : "";
  fillSelect($("f-sort"), [["", "as in the data"], ...worst]);
}

function distinct(values) {
  const numeric = new Intl.Collator("en", { numeric: true });
  return [...new Set(values.filter((value) => value !== null && value !== undefined))].sort(numeric.compare);
}

// ---------------------------------------------------------------- score tables

function scoreTable(preset, metrics) {
  const head = make("tr", {}, make("th", { scope: "col", text: "Run" }));
  for (const key of metrics) {
    head.append(make("th", { scope: "col", text: INDEX.metrics[key].label, title: INDEX.metrics[key].help }));
  }
  const numRuns = preset.rows.filter((row) => row.kind === "run").length;
  const bestOf = (key) => Math.max(...preset.columns[key].slice(0, numRuns).map((cell) => cell?.mean ?? -1));
  const body = preset.rows.map((row, index) => {
    const isBaseline = row.kind === "baseline";
    const isFirst = isBaseline && preset.rows[index - 1]?.kind === "run";
    const line = make("tr", { class: isBaseline ? `baseline${isFirst ? " first-baseline" : ""}` : null });
    const colour = isBaseline ? {} : { run: index };
    line.append(make("th", { scope: "row" }, make("i", { class: "dot", ...colour }), row.name));
    for (const key of metrics) {
      const cell = preset.columns[key][index];
      line.append(scoreCell(cell, !isBaseline && numRuns > 1 && cell?.mean === bestOf(key)));
    }
    return line;
  });
  const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Scores, preset ${preset.name}` }, table);
}

function presetTables(preset) {
  const further = make("details", {}, make("summary", { text: "Further metrics" }), scoreTable(preset, preset.further));
  return make(
    "section",
    { class: "preset" },
    make("h3", { text: `Preset \u201c${preset.name}\u201d` }),
    make("p", { class: "quiet", text: preset.note }),
    scoreTable(preset, preset.metrics),
    preset.further.length ? further : "",
    make("ul", { class: "counts quiet" }, ...preset.counts.map((text) => make("li", { text }))),
  );
}

function scoreCell(cell, isBest) {
  if (!cell) return make("td", { text: "\u2013", title: "does not apply" });
  const td = make("td", { class: isBest ? "best" : null, title: `over ${cell.count} samples` }, make("b", { text: cell.mean.toFixed(1) }));
  if (cell.low !== null) td.append(make("small", { text: `${cell.low.toFixed(1)}\u2013${cell.high.toFixed(1)}` }));
  return td;
}

function showOverview() {
  const used = new Set(INDEX.presets.flatMap((preset) => [...preset.metrics, ...preset.further]));
  const glossary = make("dl", { class: "glossary" });
  for (const key of used) {
    const { label, help } = INDEX.metrics[key];
    if (help) glossary.append(make("div", {}, make("dt", { text: `${label} ` }), make("dd", { text: help })));
  }
  $("tables").replaceChildren(...INDEX.presets.map(presetTables), glossary);
  $("subtitle").textContent = INDEX.subtitle;
}

// ---------------------------------------------------------------- views, keys, theme

function route() {
  const id = decodeHash();
  const row = BY_ID.get(id);
  const wantsSamples = id !== "" && INDEX.samples.length > 0;
  $("overview").hidden = wantsSamples;
  $("samples").hidden = !wantsSamples;
  setCurrent($("nav-overview"), !wantsSamples);
  setCurrent($("nav-samples"), wantsSamples);
  document.documentElement.style.setProperty("--bar", `${document.querySelector(".bar").offsetHeight}px`);
  if (!wantsSamples) {
    video.pause();
    document.title = INDEX.title;
    return;
  }
  if (!row) {
    video.pause();
    notice(`No sample '${id}' on this page.`);
  } else if (row !== state.row) {
    $("sample").scrollTop = 0;
    openSample(row);
  } else markCurrent();
}

function decodeHash() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return location.hash.slice(1);
  }
}

function setCurrent(link, isCurrent) {
  if (isCurrent) link.setAttribute("aria-current", "page");
  else link.removeAttribute("aria-current");
}

const KEYS = {
  " ": togglePlay,
  ArrowLeft: (event) => (event.shiftKey ? seek(state.second - 1) : step(-1)),
  ArrowRight: (event) => (event.shiftKey ? seek(state.second + 1) : step(1)),
  j: () => move(1),
  k: () => move(-1),
  g: () => $("show-gold").click(),
  p: () => $("show-predicted").click(),
  "/": () => $("f-text").focus(),
};

function onKey(event) {
  if ($("samples").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
  const target = event.target;
  const typing = target.matches("select, textarea, input:not([type=range]):not([type=checkbox])");
  const pressing = event.key === " " && target.matches("button, a, summary, input");
  const scrolling = event.key.startsWith("Arrow") && target.matches("pre, .scroll");
  const action = KEYS[event.key];
  if (!action || typing || pressing || scrolling) return;
  event.preventDefault();
  action(event);
}

function onTimeline(event) {
  const track = event.target.closest(".track");
  if (!track) return;
  if (event.type === "click") {
    // Pointers are served by pointerdown; a click without one comes from the keyboard and goes to the span's start.
    if (event.detail === 0 && event.target.dataset.start) seek(Number(event.target.dataset.start));
    return;
  }
  const place = (pointer) => {
    const box = track.getBoundingClientRect();
    seek((duration() * (pointer.clientX - box.left)) / box.width);
  };
  place(event);
  const stop = new AbortController();
  window.addEventListener("pointermove", place, { signal: stop.signal });
  for (const end of ["pointerup", "pointercancel"]) window.addEventListener(end, () => stop.abort(), { signal: stop.signal });
}

const THEMES = ["auto", "light", "dark"];

function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  $("theme").textContent = `Theme: ${theme}`;
  $("theme").dataset.value = theme;
}

function setUpRuns() {
  fillSelect($("run-a"), INDEX.runs.map((name, run) => [run, name]));
  fillSelect($("run-b"), [[-1, "none"], ...INDEX.runs.map((name, run) => [run, name])]);
  state.runs = [0, INDEX.runs.length > 1 ? 1 : -1];
  $("run-a").value = state.runs[0];
  $("run-b").value = state.runs[1];
  $("beside-label").hidden = INDEX.runs.length < 2;
  for (const side of ["a", "b"]) {
    $(`run-${side}`).addEventListener("change", () => {
      state.runs = [Number($("run-a").value), Number($("run-b").value)];
      showRuns();
    });
  }
}

function listen() {
  $("filters").addEventListener("input", applyFilters);
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("reset").addEventListener("click", () => {
    $("filters").reset();
    applyFilters();
  });
  $("previous").addEventListener("click", () => move(-1));
  $("next").addEventListener("click", () => move(1));
  $("play").addEventListener("click", togglePlay);
  $("back").addEventListener("click", () => step(-1));
  $("forward").addEventListener("click", () => step(1));
  $("speed").addEventListener("change", () => (video.playbackRate = Number($("speed").value)));
  $("scrub").addEventListener("input", () => seek(Number($("scrub").value)));
  $("lanes").addEventListener("pointerdown", onTimeline);
  $("lanes").addEventListener("click", onTimeline);
  for (const id of ["show-gold", "show-predicted"]) $(id).addEventListener("change", paint);
  for (const event of ["play", "pause"]) {
    video.addEventListener(event, () => ($("play").textContent = video.paused ? "Play" : "Pause"));
  }
  video.addEventListener("loadedmetadata", onMetadata);
  // A frame may reach the screen a moment after its callback: paint once more when it has.
  for (const event of ["loadeddata", "seeked"]) video.addEventListener(event, () => requestAnimationFrame(paint));
  video.addEventListener("click", togglePlay);
  video.addEventListener("error", () => {
    if (video.getAttribute("src")) notice(`The video does not load: ${video.error?.message || "unknown reason"}`);
  });
  $("theme").addEventListener("click", () => setTheme(THEMES[(THEMES.indexOf($("theme").dataset.value) + 1) % 3]));
  document.querySelector("[data-skip]").addEventListener("click", (event) => {
    event.preventDefault();
    ($("samples").hidden ? $("overview") : $("sample")).focus();
  });
  document.addEventListener("keydown", onKey);
  window.addEventListener("hashchange", route);
  const resized = new ResizeObserver(() => {
    paint();
    fitRail();
  });
  resized.observe($("stage"));
  resized.observe($("timeline"));
}

function start() {
  setTheme("auto");
  showOverview();
  setUpRuns();
  setUpFilters();
  listen();
  applyFilters();
  follow();
  route();
}

start();
