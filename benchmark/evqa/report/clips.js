// Clips of an episode: their lane on the time axis, and the rounds of a run, of which each is the time that a method
// works with one clip.

const MAX_LABELLED_ROUNDS = 8;

/** Whether the time axis is that of a whole episode. */
const isEpisode = ({ clips, clip }) => clips.length > 0 && clip === null;

const orderOf = (id) => state.evidence.clips.findIndex((clip) => clip.id === id);
const goldText = ({ gold }) => (gold ? ", has the evidence" : "");

function clipsLane(clips) {
  const help = "clips of the episode; those with the evidence have a border";
  const track = make("div", { class: "track clips", title: help });
  clips.forEach((clip, at) => {
    const title = `clip ${at + 1} of ${clips.length}: ${clip.id}, ${spanText([clip.start, clip.end])}${goldText(clip)}`;
    const box = make("i", { class: clip.gold ? "clip gold" : "clip", title }, make("span", { text: at + 1 }));
    placeSpan(box, [clip.start, clip.end]);
    track.append(box);
  });
  return [make("span", { class: "lane-name", text: "clips", title: help }), track];
}

/** The visited clips of a run: a row per round from top to bottom. */
function roundsLane(rounds, clips, run) {
  const help = "clips that the method worked with, a row per round";
  const track = make("div", { class: "track rounds", run, title: help });
  if (!rounds.length) track.append(make("span", { class: "none", text: "no clip was located" }));
  track.style.setProperty("--rows", Math.min(Math.max(rounds.length, 1), MAX_LABELLED_ROUNDS));
  rounds.forEach((round, row) => {
    const at = orderOf(round.clip);
    if (at < 0) return;
    const clip = clips[at];
    const title = `round ${row + 1}: clip ${at + 1}, ${clip.id}${goldText(clip)}`;
    const bar = make("button", { type: "button", class: clip.gold ? "span gold" : "span", title });
    bar.setAttribute("aria-label", `${title}: go there`);
    bar.dataset.start = clip.start;
    placeSpan(bar, [clip.start, clip.end]);
    bar.style.top = `${(100 * row) / rounds.length}%`;
    bar.style.height = `${100 / rounds.length}%`;
    const label = make("span", { class: "round-label", text: `${row + 1}: clip ${at + 1}` });
    const isLate = shareOf(clip.end) > 75;
    label.style[isLate ? "right" : "left"] = `${isLate ? 100 - shareOf(clip.start) : shareOf(clip.end)}%`;
    label.style.top = bar.style.top;
    track.append(bar);
    if (rounds.length <= MAX_LABELLED_ROUNDS) track.append(label);
  });
  return [make("span", { class: "lane-name", run, text: "rounds", title: help }), track];
}

/** Headings in the trace: the rounds whose first turn fits. */
function roundRows(rounds, fits) {
  return rounds.flatMap(({ clip: id, start }, row) => {
    if (!fits(start)) return [];
    const at = orderOf(id);
    const clip = state.evidence.clips[at];
    const text = at < 0 ? id : `clip ${at + 1} of ${state.evidence.clips.length}: ${id}`;
    const chip = clip && isEpisode(state.evidence) ? seekChip(text, clip.start, `clip ${id}`) : make("span", { class: "chip", text });
    const heading = make("li", { class: "round" }, make("b", { text: `Round ${row + 1}` }), chip);
    if (clip?.gold) heading.append(make("span", { class: "tag gold", text: "\u2713 has the evidence" }));
    return [heading];
  });
}
