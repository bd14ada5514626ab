// Views, keys, theme, start.

function route() {
  const { id, query } = readLink();
  if (id !== "" && query !== state.query) setControls(query);
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
      onControls();
    });
  }
}

function listen() {
  $("filters").addEventListener("input", onControls);
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("reset").addEventListener("click", () => {
    $("filters").reset();
    onControls();
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
  for (const event of ["play", "pause", "seeked", "ratechange"]) video.addEventListener(event, followOther);
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
  followScrolling();
}

function start() {
  setTheme("auto");
  showOverview();
  setUpRuns();
  setUpFilters();
  rememberDefaults();
  listen();
  applyFilters();
  follow();
  route();
}

start();
