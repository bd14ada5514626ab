"""Write the page: `report.html`, and beside it `report_files/` with videos and each sample's evidence."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from evqa.datasets import Dataset
from evqa.metrics.presets import PRESETS
from evqa.report import plots
from evqa.report.evidence import Json, RunOfSample, build_evidence
from evqa.report.plots import Curve, Plot
from evqa.report.tables import columns_of, counts_line
from evqa.schema import Prediction, Sample
from evqa.scoring.results import Scores

PRESET_LABELS = {"strict": "Strict", "st-evidence": "As in the paper (ST-Evidence)"}
FILES = "report_files"
SORTS = ("mIoU", "J&F")
"""Per-sample scores that are shown in the list and that it can be ordered by."""
PER_SAMPLE = ("mIoU", "mIoP", "J", "F", "J&F", "J&F held")
"""Scores shown with a sample."""
SINGULAR = {"mIoU": "t-IoU", "mIoP": "t-IoP"}
"""What a mean is called when it is of one sample."""


@dataclass(frozen=True)
class PageContents:
    """Everything that the page shows, gathered."""

    dataset: Dataset
    predictions: Mapping[str, Mapping[str, Prediction]]
    """Run -> sample id -> prediction."""
    scores: Mapping[str, Sequence[Scores]]
    """Preset -> one entry a run."""
    baselines: Mapping[str, Sequence[Scores]]
    """Preset -> one entry a trivial baseline."""
    curves: Sequence[Curve]
    title: str

    @property
    def preset(self) -> str:
        """The preset whose per-sample scores are listed, sorted by and plotted: the first one given."""
        return next(iter(self.scores))

    def values(self, run: str, sample: str) -> Mapping[str, float | None]:
        """Metric -> fraction of one sample in a run, under that preset."""
        scores = next((entry for entry in self.scores[self.preset] if entry.name == run), None)
        found = scores.samples[sample].values if scores and sample in scores.samples else {}
        return dict(found)


def write_page(  # noqa: PLR0913 (only three are needed)
    out: Path,
    dataset: Dataset,
    runs: Mapping[str, tuple[Sequence[Prediction], Sequence[Scores]]],
    *,
    baselines: Sequence[Scores] = (),
    curves: Sequence[Curve] = (),
    title: str | None = None,
    limit: int | None = None,
) -> Path:
    """Write the page into the folder `out` and return the path of `report.html`.

    Args:
        out: Folder, made where absent. `report_files/` in it belongs to the page: what is stale there goes.
        dataset: Gold.
        runs: Name -> (predictions, their scores, one entry per preset); the first preset is plotted.
        baselines: Scores of trivial baselines, one entry per baseline and preset.
        curves: Lines of training logs.
        title: Of the page; else the data set's and the runs' names.
        limit: At most so many samples can be browsed, spread evenly over the data set; scores are of all.
    """
    if not runs or not all(scores for _, scores in runs.values()):
        raise ValueError(f"a page needs at least one run, each with scores, got {list(runs)}")
    contents = _gather(dataset, runs, baselines, curves, title or f"{dataset.name}: {', '.join(runs)}")
    samples = selected_samples(dataset.samples, limit)
    folders = [out / FILES / name for name in ("samples", "videos")]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    written = [_write_sample(number, sample, contents, out) for number, sample in samples]
    page = _fill(contents, samples)
    _write_text(out / "report.html", page)
    _remove_stale(folders, [path for paths in written for path in paths])
    return out / "report.html"


def selected_samples(samples: Sequence[Sample], limit: int | None) -> list[tuple[int, Sample]]:
    """(number, sample) of at most `limit` samples at even distances, in order."""
    if limit is not None and limit < 1:
        raise ValueError(f"a page shows at least one sample, got limit={limit}")
    total = len(samples)
    if limit is None or limit >= total:
        return list(enumerate(samples))
    return [(number, samples[number]) for number in (place * total // limit for place in range(limit))]


def _gather(
    dataset: Dataset,
    runs: Mapping[str, tuple[Sequence[Prediction], Sequence[Scores]]],
    baselines: Sequence[Scores],
    curves: Sequence[Curve],
    title: str,
) -> PageContents:
    named = [entry.model_copy(update={"name": name}) for name, (_, given) in runs.items() for entry in given]
    presets = dict.fromkeys(entry.preset for entry in named)
    return PageContents(
        dataset=dataset,
        predictions={name: {p.sample_id: p for p in predictions} for name, (predictions, _) in runs.items()},
        scores={preset: [entry for entry in named if entry.preset == preset] for preset in presets},
        baselines={preset: [entry for entry in baselines if entry.preset == preset] for preset in presets},
        curves=curves,
        title=title,
    )


# One sample


def _write_sample(number: int, sample: Sample, contents: PageContents, out: Path) -> list[Path]:
    """The files of a sample, written: its evidence as a script that calls `evqaSample`, and its video."""
    runs: list[RunOfSample] = []
    for name, predictions in contents.predictions.items():
        values = contents.values(name, sample.id)
        runs.append(RunOfSample(predictions.get(sample.id), {key: values.get(key) for key in PER_SAMPLE}))
    found = build_evidence(number, sample, runs, out / FILES / "videos")
    path = out / FILES / "samples" / _sample_file(number)
    _write_text(path, f"evqaSample({_script_json(found.data)});\n")
    return [path, found.video] if found.video else [path]


def _sample_file(number: int) -> str:
    return f"{number:05d}.js"


def _listed(number: int, sample: Sample, contents: PageContents) -> Json:
    """A sample's row in the list: what can be searched, filtered and sorted by."""
    runs: list[Json | None] = []
    for name, predictions in contents.predictions.items():
        prediction = predictions.get(sample.id)
        values = contents.values(name, sample.id)
        right = values.get("Acc")
        runs.append(
            prediction
            and {
                "status": prediction.status,
                "answer": prediction.answer,
                "right": None if right is None else right == 1,
                "scores": {key: values[key] for key in SORTS if values.get(key) is not None},
            }
        )
    return {
        "n": number,
        "file": _sample_file(number),
        "id": sample.id,
        "question": sample.question,
        "question_type": sample.question_type,
        "source": sample.source,
        "tags": sample.metadata,
        "text": " ".join((sample.id, sample.question, *sample.options)).lower(),
        "runs": runs,
    }


# The page


def _fill(contents: PageContents, samples: Sequence[tuple[int, Sample]]) -> str:
    here = resources.files("evqa.report")
    template, style, script = (
        (here / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts = {
        "title": html.escape(contents.title),
        "script_hash": f"sha256-{digest}",
        "style": style,
        "script": script,
        "plots": "\n".join(map(_figure, _plots(contents))),
        "index": _script_json(_index(contents, samples)),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def _plots(contents: PageContents) -> list[Plot]:
    scores, baselines = contents.scores[contents.preset], contents.baselines[contents.preset]
    predictions = {name: list(found.values()) for name, found in contents.predictions.items()}
    return plots.all_plots(scores, baselines, contents.dataset.samples, predictions, contents.curves)


def _figure(plot: Plot) -> str:
    kind = ' class="full"' if plot.is_wide else ""
    return (
        f"<figure{kind}><figcaption><b>{html.escape(plot.title)}</b> <span>{html.escape(plot.note)}</span>"
        f'</figcaption><div class="scroll" tabindex="0">{plot.svg}</div></figure>'
    )


def _index(contents: PageContents, samples: Sequence[tuple[int, Sample]]) -> Json:
    shown, total = len(samples), len(contents.dataset.samples)
    part = (
        f"{shown} of {total} samples can be browsed, scores are of all"
        if shown < total
        else f"{total} {'sample' if total == 1 else 'samples'}"
    )
    rejected = f", {len(contents.dataset.rejected)} unreadable lines" if contents.dataset.rejected else ""
    return {
        "title": contents.title,
        "subtitle": f"{contents.dataset.name} ({contents.dataset.sha256[:12]}): {part}{rejected}",
        "runs": list(contents.predictions),
        "metrics": _glossary(),
        "sorts": [key for key in SORTS if any(_applies(entry, key) for entry in contents.scores[contents.preset])],
        "presets": [_preset_table(name, contents) for name in contents.scores],
        "samples": [_listed(number, sample, contents) for number, sample in samples],
    }


def _glossary() -> Json:
    """Metric -> its name, what it is called at one sample, and its definition (the first preset's)."""
    found: dict[str, Json] = {}
    for preset in PRESETS.values():
        for name, metric in preset.metrics.items():
            found.setdefault(name, {"label": name, "one": SINGULAR.get(name, name), "help": metric.definition})
    return found


def _preset_table(name: str, contents: PageContents) -> Json:
    runs, baselines = contents.scores[name], contents.baselines[name]
    metrics = [key for key in PRESETS[name].metrics if any(_applies(entry, key) for entry in runs)]
    columns = {key: [_cell(entry, key) for entry in (*runs, *baselines)] for key in metrics}
    rows = [("run", entry) for entry in runs] + [("baseline", entry) for entry in baselines]
    return {
        "name": name,
        "note": PRESETS[name].description,
        "counts": [counts_line(entry) for entry in runs],
        "rows": [{"kind": kind, "name": entry.name} for kind, entry in rows],
        "metrics": [key for key in metrics if key in columns_of(name)],
        "further": [key for key in metrics if key not in columns_of(name)],
        "columns": columns,
    }


def _applies(scores: Scores, metric: str) -> bool:
    return metric in scores.metrics and scores.metrics[metric].mean is not None


def _cell(scores: Scores, metric: str) -> Json | None:
    """Mean and interval in percent; None where the metric does not apply."""
    found = scores.metrics.get(metric)
    if found is None or found.mean is None:
        return None
    ends = [None if end is None else 100 * end for end in (found.low, found.high)]
    return {"mean": 100 * found.mean, "low": ends[0], "high": ends[1], "count": found.n_total}


# Files


def _script_json(value: object) -> str:
    """JSON that can stand inside a script: ASCII, with no character that could end the script."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _write_text(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _remove_stale(folders: Iterable[Path], kept: Iterable[Path]) -> None:
    """Remove files of an earlier page that this one does not use."""
    wanted = set(kept)
    for folder in folders:
        for path in folder.iterdir():
            if path not in wanted and path.is_file():
                path.unlink()
