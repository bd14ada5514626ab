// The list of samples: filters, order, and their state in the link.

const CONTROLS = {
  text: "f-text",
  run: "f-run",
  result: "f-result",
  below: "f-below",
  type: "f-type",
  stop: "f-stop",
  calls: "f-calls",
  sort: "f-sort",
  a: "run-a",
  b: "run-b",
};
const defaults = new Map();

/** Name in the link -> control, those of the tags included. */
function controls() {
  const tags = [...$("f-tags").querySelectorAll("select")].map((select) => [`tag.${select.dataset.tag}`, select]);
  return new Map([...Object.entries(CONTROLS).map(([name, id]) => [name, $(id)]), ...tags]);
}

function rememberDefaults() {
  for (const [name, control] of controls()) defaults.set(name, control.value);
}

/** The controls that differ from their defaults, as the query of a link. */
function currentQuery() {
  const changed = [...controls()].filter(([name, control]) => control.value !== defaults.get(name));
  return new URLSearchParams(changed.map(([name, control]) => [name, control.value])).toString();
}

/** Set all controls by the query of a link; an unknown value is the default. */
function setControls(query) {
  const values = new URLSearchParams(query);
  for (const [name, control] of controls()) {
    control.value = values.get(name) ?? defaults.get(name);
    if (control.selectedIndex === -1) control.value = defaults.get(name);
  }
  applyControls();
}

function applyControls() {
  state.runs = [Number($("run-a").value), Number($("run-b").value)];
  state.query = currentQuery();
  applyFilters();
  showRuns();
}

/** A control was changed: show its effect and put it into the link. */
function onControls() {
  applyControls();
  history.replaceState(null, "", linkTo(readLink().id));
}

/** The link of a sample, with the filters and the order. */
function linkTo(id) {
  return `#${encodeURIComponent(id)}${state.query && id ? `?${state.query}` : ""}`;
}

function readLink() {
  const [id, query = ""] = location.hash.slice(1).split("?", 2);
  try {
    return { id: decodeURIComponent(id), query };
  } catch {
    return { id, query };
  }
}

// ---- filters and order

function isListed(row) {
  const text = $("f-text").value.trim().toLowerCase();
  if (text && !row.text.includes(text)) return false;
  if ($("f-type").value && row.question_type !== $("f-type").value) return false;
  for (const select of $("f-tags").querySelectorAll("select")) {
    if (select.value && row.tags[select.dataset.tag] !== select.value) return false;
  }
  const run = Number($("f-run").value);
  return hasResult(row, $("f-result").value, run) && hasTrace(row.runs[run], $("f-stop").value, $("f-calls").value);
}

/** Whether a run's record of a sample has a stop reason, and tool calls of a kind: `none`, `invalid`, or at least N. */
function hasTrace(result, stop, calls) {
  if (stop && result?.stop !== stop) return false;
  if (!calls) return true;
  if (calls === "none") return result?.calls === 0;
  return calls === "invalid" ? result?.invalid > 0 : result?.calls >= Number(calls);
}

const metricScore = (row, run, metric) => row.runs[run]?.scores[metric];

/** Whether a run's result for a sample is of a kind such as `right`, or `right-below:mIoU` (right answer, weak evidence). */
function hasResult(row, kind, run) {
  const result = row.runs[run];
  const [name, metric] = kind.split(":");
  const limit = Number($("f-below").value) / 100;
  switch (name) {
    case "":
      return true;
    case "support":
      return result?.support === metric;
    case "disagree":
      return new Set(row.runs.map((result) => result?.right === true)).size > 1;
    case "failed":
      return !result || result.status === "failed";
    case "silent":
      return result?.status === "ok" && result.answer === null;
    case "below":
      return metricScore(row, run, metric) < limit;
    case "right-below":
      return result?.right === true && metricScore(row, run, metric) < limit;
    case "wrong-good": {
      const scores = INDEX.listed.map((metric) => metricScore(row, run, metric)).filter((score) => score !== undefined);
      return result?.right === false && scores.length > 0 && scores.every((score) => score >= limit);
    }
    default:
      return Boolean(result) && result.right === (name === "right");
  }
}

function sorted(rows) {
  const [kind, metric] = $("f-sort").value.split(":");
  if (kind === "") return rows;
  const run = Number($("f-run").value);
  const [a, b] = state.runs;
  const values = {
    worst: (row) => metricScore(row, run, metric),
    best: (row) => -metricScore(row, run, metric),
    calls: (row) => -row.runs[run]?.calls,
    change: (row) => metricScore(row, b, metric) - metricScore(row, a, metric),
  };
  const value = (row) => {
    const number = values[kind](row);
    return Number.isFinite(number) ? number : Infinity; // without a score: last
  };
  return [...rows].sort((first, second) => value(first) - value(second) || first.n - second.n);
}

function applyFilters() {
  state.rows = sorted(INDEX.samples.filter(isListed));
  const total = INDEX.samples.length;
  const noun = total === 1 ? "sample" : "samples";
  $("count").textContent = state.rows.length === total ? `${total} ${noun}` : `${state.rows.length} of ${total} ${noun}`;
  $("list").replaceChildren(...state.rows.map(listItem));
  markCurrent();
}

function listItem(row) {
  const marks = row.runs.map((result, run) => runMark(result, run));
  const meta = make("span", { class: "m" }, make("span", { text: row.id }), ...marks);
  return make("li", {}, make("a", { href: linkTo(row.id), "data-id": row.id }, make("span", { class: "q", text: row.question }), meta));
}

function runMark(result, run) {
  const isFailed = result?.status === "failed" || !result;
  const words = { true: ["\u2713", "right"], false: ["\u2717", "wrong"] };
  const [glyph, word] = isFailed ? ["!", "failed"] : words[result.right] ?? ["\u2013", "no answer key"];
  const scores = isFailed ? [] : INDEX.listed.filter((key) => (result.scores[key] ?? null) !== null);
  const numbers = scores.map((key) => (100 * result.scores[key]).toFixed(0)).join("/");
  const details = scores.map((key) => `, ${INDEX.metrics[key].one} ${percent(result.scores[key])}`).join("");
  const stop = result?.stop ? `, stop: ${result.stop}, ${result.calls} tool calls` : "";
  const title = `${INDEX.runs[run]}: ${word}${details}${stop}`;
  const dot = make("i", { class: "dot", run });
  dot.style.marginRight = ".25rem";
  return make("span", { class: `mark ${word.split(" ")[0]}`, title, "aria-label": title, role: "img" }, dot, `${glyph} ${numbers}`);
}

function markCurrent() {
  const current = state.row?.id;
  for (const link of $("list").querySelectorAll("a")) {
    if (link.dataset.id === current) {
      link.setAttribute("aria-current", "true");
      scrollListTo(link);
    } else link.removeAttribute("aria-current");
  }
  const at = state.rows.indexOf(state.row);
  $("previous").disabled = at === 0 || !state.rows.length;
  $("next").disabled = at === state.rows.length - 1 || !state.rows.length;
  const first = state.row ?? state.rows[0] ?? INDEX.samples[0];
  $("nav-samples").setAttribute("href", first ? linkTo(first.id) : "#");
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
  const at = state.rows.indexOf(state.row);
  const row = at < 0 ? state.rows[0] : state.rows[at + by];
  if (row) location.hash = linkTo(row.id);
}

function setUpFilters() {
  fillSelect($("f-run"), INDEX.runs.map((name, run) => [run, name]));
  fillSelect($("f-result"), resultChoices());
  $("f-below").parentElement.hidden = !INDEX.listed.length;
  const types = distinct(INDEX.samples.map((row) => row.question_type));
  fillSelect($("f-type"), [["", "all"], ...types.map((type) => [type, type])]);
  $("f-type").parentElement.hidden = types.length < 2;
  setUpTraceFilters();
  for (const tag of distinct(INDEX.samples.flatMap((row) => Object.keys(row.tags)))) {
    const values = distinct(INDEX.samples.map((row) => row.tags[tag]));
    if (values.length < 2 || values.length > 40) continue;
    const select = make("select", { "data-tag": tag });
    fillSelect(select, [["", "all"], ...values.map((value) => [value, value])]);
    const name = tag.replaceAll("_", " ");
    $("f-tags").append(make("label", { text: `${name[0].toUpperCase()}${name.slice(1)} ` }, select));
  }
  fillSelect($("f-sort"), sortChoices());
  const numbers = INDEX.listed.length ? `; ${INDEX.listed.map((key) => INDEX.metrics[key].one).join(" / ")} in %` : "";
  $("legend").textContent = `\u2713 right, \u2717 wrong, ! failed${numbers}`;
}

/** Results of a kind in the runs of all samples, without those that are missing. */
const recorded = (kind) => INDEX.samples.flatMap((row) => row.runs.map((result) => result?.[kind] ?? null)).filter((value) => value !== null);

function setUpTraceFilters() {
  const stops = distinct(recorded("stop"));
  fillSelect($("f-stop"), [["", "all"], ...stops.map((stop) => [stop, stop])]);
  $("f-stop").parentElement.hidden = stops.length === 0;
  const most = recorded("calls").reduce((first, second) => Math.max(first, second), 0);
  const least = [1, 2, 5, 10, 20, 50, 100].filter((count) => count <= most);
  const choices = [["", "all"], ["none", "none"], ...least.map((count) => [count, `at least ${count}`])];
  if (recorded("invalid").some((count) => count > 0)) choices.push(["invalid", "some invalid"]);
  fillSelect($("f-calls"), choices);
  $("f-calls").parentElement.hidden = choices.length < 3;
}

function resultChoices() {
  const choices = [["", "all"], ["right", "right"], ["wrong", "wrong"], ["silent", "no answer parsed"], ["failed", "failed or missing"]];
  for (const key of INDEX.listed) {
    choices.push([`right-below:${key}`, `right, but ${INDEX.metrics[key].one} below the limit`]);
  }
  if (INDEX.listed.length) choices.push(["wrong-good", "wrong, but evidence not below the limit"]);
  for (const key of INDEX.listed) choices.push([`below:${key}`, `${INDEX.metrics[key].one} below the limit`]);
  for (const cell of new Set(recorded("support"))) choices.push([`support:${cell}`, INDEX.support[cell]]);
  if (INDEX.runs.length > 1) choices.push(["disagree", "runs disagree"]);
  return choices;
}

function sortChoices() {
  const choices = [["", "as in the data"]];
  if (recorded("calls").some((count) => count > 0)) choices.push(["calls", "most tool calls first"]);
  for (const key of INDEX.listed) {
    const { one } = INDEX.metrics[key];
    choices.push([`worst:${key}`, `worst ${one} first`], [`best:${key}`, `best ${one} first`]);
    if (INDEX.runs.length > 1) choices.push([`change:${key}`, `${one}: largest drop from run A to B first`]);
  }
  return choices;
}

function distinct(values) {
  const numeric = new Intl.Collator("en", { numeric: true });
  return [...new Set(values.filter((value) => value !== null && value !== undefined))].sort(numeric.compare);
}
