"""Export of localisation: the table and records of the published staged pipeline, and a file of the Ego4D challenge.

    NAME.csv            id, video_uid, clip_uid, query, correct_segment, ..., template: a row per question
    NAME.json           the same questions with their conversations
    NAME.nlq.json       predicted_times in seconds of clips, for the evaluator of the challenge

The original compares segments of the video with times of the clip; `correct_segment` here is on the clock of the video.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evqa import media
from evqa.datasets import Dataset
from evqa.files.csv_files import write_csv
from evqa.files.jsonl import replace_file
from evqa.metrics.localisation import contains
from evqa.runs.prediction_files import PredictionFile
from evqa.schema import ClipWindow, Prediction, Sample, Span, Turn, VideoSpan
from evqa.scoring.cases import check_clock

COLUMNS: tuple[str, ...] = (
    "id",
    "video_uid",
    "clip_uid",
    "query",
    "correct_segment",
    "duration_sec",
    "clip_start_sec",
    "clip_end_sec",
    "video_start_frame",
    "video_end_frame",
    "template",
)
"""Columns of the original's table."""

Row = dict[str, str | float | int | bool | None]


class LocalisationFiles(NamedTuple):
    """Files of an export."""

    table: Path
    records: Path
    challenge: Path
    num_rows: int


def export_localisation(file: PredictionFile, dataset: Dataset, out: Path, name: str) -> LocalisationFiles:
    """Write the predictions of a data set of localisation into a new folder.

    Raises:
        ValueError: The folder exists, a sample has no clip window, or a prediction is on another clock.
    """
    if out.exists():
        raise ValueError(f"{out} is there already: remove it, or choose another folder with --out")
    cases = [(sample, _window(sample), file.get(sample)) for sample in dataset.samples]
    rows = [row_of(sample, window, prediction) for sample, window, prediction in cases]
    records = [_record(row, prediction) for row, (*_, prediction) in zip(rows, cases, strict=True)]
    results = [_result(*case) for case in cases]
    challenge = {"version": "1.0", "challenge": "ego4d_nlq_challenge", "results": results}
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_csv(partial / f"{name}.csv", COLUMNS, rows)
    for ending, content in (("json", records), ("nlq.json", challenge)):
        with replace_file(partial / f"{name}.{ending}") as target:
            target.write(json.dumps(content, ensure_ascii=False, indent=1).encode())
    partial.rename(out)
    return LocalisationFiles(out / f"{name}.csv", out / f"{name}.json", out / f"{name}.nlq.json", len(rows))


def row_of(sample: Sample, window: ClipWindow, prediction: Prediction | None) -> Row:
    """Row of the original's table; a question without a prediction or with a failed one is not correct."""
    check_clock(sample, prediction)
    gold = (sample.spans or (None,))[0]
    clip = None if gold is None else window.to_clip(VideoSpan(*gold))
    start, end = (None, None) if gold is None else _frames(sample, gold)
    return {
        "id": sample.id,
        "video_uid": sample.video_id,
        "clip_uid": window.id,
        "query": sample.question,
        "correct_segment": bool(prediction and contains(prediction.spans or (), sample.spans or ())),
        "duration_sec": sample.duration,
        "clip_start_sec": None if clip is None else round(clip.start, 6),
        "clip_end_sec": None if clip is None else round(clip.end, 6),
        "video_start_frame": start,
        "video_end_frame": end,
        "template": sample.question_type or "",
    }


def _window(sample: Sample) -> ClipWindow:
    if sample.clip_window is None:
        raise ValueError(f"sample {sample.id} states no clip: this format is for ego4d-nlq, prepare the data set again")
    return sample.clip_window


def _frames(sample: Sample, span: Span) -> tuple[int | None, int | None]:
    """Indices of the frames that are shown at the ends of a span; None where the video is not here."""
    if not sample.video.exists():
        return None, None
    times = media.probe_video(sample.video).times
    start, end = np.searchsorted(times, [span.start + 1e-6, span.end + 1e-6], side="right") - 1
    return int(max(start, 0)), int(max(end, 0))


def _record(row: Row, prediction: Prediction | None) -> dict[str, object]:
    """Record of the original's results: the row, the last response and the conversation."""
    turns = prediction.turns if prediction else ()
    return {
        **row,
        "response": turns[-1].reply if turns else "",
        "predicted_segments": [list(span) for span in (prediction.spans if prediction else None) or ()],
        "conversation": list(map(_exchange, turns)),
    }


def _exchange(turn: Turn) -> Mapping[str, str]:
    return {"stage": turn.agent, "prompt": turn.prompt, "response": turn.reply}


def _result(sample: Sample, window: ClipWindow, prediction: Prediction | None) -> Mapping[str, object]:
    """Entry of the challenge: the part of each span that lies in the clip, in seconds of the clip."""
    name = sample.id.removeprefix(f"{window.id}_")
    annotation, _, place = name.rpartition("_")
    spans = (prediction.spans if prediction else None) or ()
    cut = [Span(max(span.start, window.start), min(span.end, window.end)) for span in spans]
    in_clip = [window.to_clip(VideoSpan(*span)) for span in cut if span.start < span.end]
    return {
        "clip_uid": window.id,
        "annotation_uid": annotation,
        "query_idx": int(place),
        "predicted_times": [[round(span.start, 6), round(span.end, 6)] for span in in_clip],
    }
