"use strict";
// The report page: constants and DOM helpers. `page.py` concatenates the scripts of this folder, because a page opened
// from a file cannot import modules. All text from data is set by textContent. The data of one sample is a script that
// calls evqaSample, because a page opened from a file may not fetch.

const INDEX = JSON.parse(document.getElementById("index").textContent);
const FILL_ALPHA = 0.5;
const CARRIED_ALPHA = 0.22; // a mask carried forward to a frame that it was not computed for
const OUTLINE = 2; // CSS pixels
const GOLD_ON_VIDEO = "#ffc400";
const RUNS_ON_VIDEO = ["#3d9bff", "#ff5db1", "#2fe0b5", "#ff8a3d", "#a98bff", "#d5dbe2"];
const BY_ID = new Map(INDEX.samples.map((row) => [row.id, row]));

const $ = (id) => document.getElementById(id);
const state = { rows: [], row: null, evidence: null, runs: [0, -1], query: "", origin: null, frame: 0, second: 0 };

// ---- elements

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
const timeText = (second) => `${second.toFixed(2)} s`;
const spanText = (span) => `${+span[0].toFixed(2)}\u2013${+span[1].toFixed(2)} s`;
