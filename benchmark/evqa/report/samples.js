// Samples: one sample with its runs; the list with filters and order.

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
  setText($("s-notice"), text);
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
  loadOther(evidence.others[0]);
  for (const part of ["stage", "transport", "overlays"]) $(part).hidden = !evidence.hasVideo;
  $("timeline").hidden = evidence.duration === null;
  $("timeline").classList.toggle("still", !evidence.video);
  showRuns();
  showTime(0);
}

function clearSample(row) {
  loadVideo(null);
  loadOther(null);
  notice("");
  document.title = `${row.id} \u2013 ${INDEX.title}`;
  setText($("s-meta"), metaText(row));
  setText($("s-question"), row.question);
  for (const id of ["s-options", "lanes", "replies"]) $(id).replaceChildren();
  paint();
}

function metaText(row) {
  const tags = Object.entries(row.tags).map(([key, value]) => tagText(key, value));
  return [row.id, row.question_type, row.source, ...tags].filter(Boolean).join(" \u00b7 ");
}

/** A tag in words; the name is left out where the value contains it ("named: not named"). */
function tagText(key, value) {
  const [name, text] = [key, value].map((word) => String(word).replaceAll("_", " "));
  return text.split(" ").includes(name) ? text : `${name}: ${text}`;
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

/** The second video of a pair: it plays and seeks with the first one, to the same second. */
function loadOther(source) {
  const other = $("other");
  other.pause();
  $("panel-other").hidden = !source;
  if (!source) {
    other.removeAttribute("src");
    other.load();
    return;
  }
  $("panel-other").querySelector(".panel-note").textContent = `${timeText(source.duration)}, ${source.times.length} frames`;
  $("panel-other").querySelector(".screen").style.setProperty("--aspect", source.width / source.height);
  other.src = source.src;
}

function followOther() {
  const source = state.evidence?.others[0];
  if (!source) return;
  const other = $("other");
  other.playbackRate = video.playbackRate;
  other.currentTime = Math.min(video.currentTime, source.duration);
  if (video.paused) other.pause();
  else other.play().catch(() => {});
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
  const runs = [a, b].filter((run) => run >= 0);
  $("stage").classList.toggle("two", b >= 0 || Boolean(evidence?.others?.length));
  $("panel-b").hidden = b < 0;
  ["a", "b"].forEach((side, slot) => {
    const run = state.runs[slot];
    if (run < 0) return;
    const panel = $(`panel-${side}`);
    panel.style.setProperty("--run", runColour(run));
    panel.querySelector(".panel-name").textContent = INDEX.runs[run];
    panel.querySelector(".panel-note").textContent = evidence?.others?.length ? "video 1" : "";
    document.documentElement.style.setProperty(`--${side}`, runColour(run));
  });
  if (b < 0) document.documentElement.style.removeProperty("--b");
  if (!evidence) return;
  showOptions(evidence, runs);
  showLanes(evidence, runs);
  $("replies").replaceChildren(...runs.map((run) => replyCard(evidence, run)));
  paint();
}

function showOptions(evidence, runs) {
  const rows = evidence.options.map((text, index) => {
    const isGold = index === evidence.answer;
    const item = make("li", { class: isGold ? "gold" : null });
    item.append(make("span", { class: "letter", text: letter(index) }), make("span", { text }));
    if (isGold) item.append(make("span", { class: "tag gold", text: "\u2713 right answer" }));
    for (const run of runs) {
      if (evidence.runs[run]?.answer === index) {
        item.append(make("span", { class: "tag run", run, text: `\u25cf ${INDEX.runs[run]}` }));
      }
    }
    return item;
  });
  if (!rows.length && evidence.response) {
    rows.push(make("li", { class: "gold" }, make("span", { text: evidence.response }), make("span", { class: "tag gold", text: "\u2713 right answer" })));
  }
  $("s-options").replaceChildren(...rows);
}

function replyCard(evidence, run) {
  const result = evidence.runs[run];
  const card = make("section", { class: "reply", run }, make("h3", { text: INDEX.runs[run] }));
  if (!result) {
    card.append(make("p", { class: "notice", text: "This run has no prediction for this sample." }));
    return card;
  }
  if (result.status === "failed") card.append(make("p", { class: "notice", text: `Failed: ${result.error}` }));
  card.append(factList(result, state.row.runs[run].right));
  card.append(...traceParts(result));
  return card;
}

const PREFERENCES = { first: "video 1", second: "video 2", tie: "tie", bad: "tie, both bad" };
const labelText = (label) => (label === 0 ? "tie" : `video ${label}`);

/** Verdict of a pairwise judge in each dimension, the preference of people, and disagreement of the two orders. */
function addVerdicts(add, { verdicts, orders }) {
  const gold = state.evidence.preferences ?? {};
  if (!verdicts) add("verdict", "none could be read");
  for (const [name, label] of Object.entries(verdicts ?? {})) {
    const [first, second] = orders ?? [];
    const differs = first && second && first[name] !== second[name];
    const order = differs ? ` (orders disagree: ${labelText(first[name])}, ${labelText(second[name])})` : "";
    add(name, `${labelText(label)}${order}${gold[name] ? `, people: ${PREFERENCES[gold[name]]}` : ""}`);
  }
}

/** Answer, segments and scores; the verdict of a pair. `isRight`: null where the data set has no answer. */
function factList(result, isRight) {
  const facts = make("dl", { class: "facts" });
  const add = (name, value) => facts.append(make("div", {}, make("dt", { text: name }), make("dd", { text: value })));
  const verdict = isRight === null ? "" : isRight ? ", right" : ", wrong";
  if (state.evidence?.others?.length) addVerdicts(add, result);
  else {
    if (result.response !== null) add("answer", result.response ? `${excerpt(result.response)}${verdict}` : "none");
    else add("answer", result.answer === null ? "none" : `${letter(result.answer)}${verdict}`);
    add("segments", result.spans === null ? "none" : result.spans.map(spanText).join(", ") || "stated: none");
  }
  for (const [key, value] of Object.entries(result.scores)) add(INDEX.metrics[key]?.one ?? key, percent(value));
  if (result.expressions?.length) add("objects", result.expressions.join("; "));
  const rules = Object.entries(result.rules ?? {}).map(([field, rule]) => `${field}: ${rule}`);
  if (rules.length) add("parsing rule", rules.join(", "));
  return facts;
}
