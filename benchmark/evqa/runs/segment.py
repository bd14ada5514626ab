"""Segmentation of referring expressions: the second step for models that predict no masks.

The result is a separate run with the same answers and spans, and with masks. Each object has its expression as label.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from evqa import media, prompts
from evqa.datasets import Dataset
from evqa.models.base import Model, ModelError, Models
from evqa.models.messages import Message, VideoMasks, VideoPart
from evqa.runs import run_folder
from evqa.runs.run_folder import Identity
from evqa.runs.runner import Executor
from evqa.schema import Prediction, Sample, Track, Turn

Mode = Literal["separate", "concat"]

MODES: tuple[Mode, ...] = ("separate", "concat")
"""Prompts: one per expression, or one for all expressions of a sample."""


@dataclass(frozen=True)
class ExpressionSegmenter:
    """Predictor (see `runner.Predictor`) that segments the expressions of a stored prediction."""

    mode: Mode
    sources: Mapping[str, Prediction]
    """Sample id -> prediction with expressions, without masks."""

    def __call__(self, models: Models, sample: Sample) -> Prediction:
        """Return the prediction with masks; a failed one with the fields of the first step if the model fails."""
        started = time.perf_counter()
        source = self.sources[sample.id]
        if source.status == "failed" or source.expressions is None:
            return source
        segments: list[SegmentedPrompt] = []
        try:
            segments.extend(_segment_expressions(models.main, sample, self.mode, source.expressions))
            update = _merge_prompts(sample, segments)
        except (ModelError, ValueError) as error:
            update = {"status": "failed", "error": f"{type(error).__name__}: {error}"}
        turns = (*source.turns, *(segment.turn for segment in segments))
        seconds = round(source.seconds + time.perf_counter() - started, 3)
        return source.replace(**update, turns=turns, seconds=seconds)

    def is_done(self, prediction: Prediction) -> bool:
        """Whether a stored prediction is complete: its source has not changed since."""
        source = self.sources.get(prediction.sample_id)
        if source is None or prediction.status == "failed":
            return False
        content = (prediction.turns[: len(source.turns)], prediction.expressions, prediction.answer, prediction.spans)
        return content == (source.turns, source.expressions, source.answer, source.spans)


class SegmentedPrompt(NamedTuple):
    """Masks for one prompt."""

    turn: Turn
    masks: VideoMasks
    """Masks of the objects, with labels."""


def text_predictions(predictions: Iterable[Prediction]) -> dict[str, Prediction]:
    """Return sample id -> prediction, without masks and without usage, which belongs to the first run.

    `ValueError`: none of them has expressions.
    """
    sources = {prediction.sample_id: _source(prediction) for prediction in predictions}
    if not any(source.expressions for source in sources.values()):
        raise ValueError("there are no referring expressions to segment: the predictions are masks, or choices")
    return sources


def _source(prediction: Prediction) -> Prediction:
    masks = ("tracks", "mask_size", "num_frames", "mask_frames", "mask_folder")
    turns = tuple(turn.replace(usage=None) for turn in prediction.turns)
    return prediction.replace(**dict.fromkeys(masks), turns=turns)


def identity_of(run: Path, dataset: Dataset, executor: Executor, mode: Mode) -> Identity:
    """Return the identity of the first step (for a file: its name) and the settings of the mask model."""
    identity: Identity = {
        "masks": mode,
        "masks.model": executor.main.name,
        "masks.prompt_version": prompts.PROMPT_VERSION,
    }
    settings = {f"masks.model.{key}": value for key, value in executor.main.settings.items()}
    first: Identity = {"data": dataset.name, "data_sha256": dataset.sha256, "predictions": run.name}
    if (run / run_folder.RUN).is_file():
        first = run_folder.read_run_info(run).identity
    return first | identity | settings


def folder_of(base: Path, mode: Mode) -> Path:
    """Return the output folder of a mode: NAME-MODE beside the run or file NAME."""
    path = base if base.name not in {"", ".."} else base.resolve()
    return path.with_name(f"{path.name if path.is_dir() else path.stem}-{mode}")


def _segment_expressions(
    model: Model, sample: Sample, mode: Mode, expressions: Sequence[str]
) -> Iterator[SegmentedPrompt]:
    media.set_folder_fps(sample.video, sample.fps)
    groups = [[expression] for expression in expressions] if mode == "separate" else [list(expressions)]
    for group in groups if expressions else ():
        prompt = prompts.segment_request(group)
        reply = model.generate((Message("user", (VideoPart(sample.video), prompt)),))
        if reply.masks is None:
            raise ModelError(
                f"{model.name} replied without masks ({reply.text[:80]!r}): choose a model that predicts masks"
            )
        turn = Turn(answer_fields=("masks",), prompt=prompt, reply=reply.text, usage=reply.usage, finish=reply.finish)
        yield SegmentedPrompt(turn, _with_labels(reply.masks, group))


def _with_labels(masks: VideoMasks, expressions: Sequence[str]) -> VideoMasks:
    """Return the masks with expressions as labels: one for each object if the numbers agree, else all for each."""
    labels = list(expressions)
    if len(masks.tracks) != len(labels):
        labels = [", ".join(expressions)] * len(masks.tracks)
    tracks = tuple(
        Track(label=label, score=track.score, masks=track.masks)
        for label, track in zip(labels, masks.tracks, strict=True)
    )
    return VideoMasks(tracks, masks.size, masks.num_frames, masks.frames)


def _merge_prompts(sample: Sample, segments: Sequence[SegmentedPrompt]) -> dict[str, object]:
    """Return the objects of all prompts as fields of a prediction; without prompts there are no objects."""
    if not segments:
        video = media.probe_video(sample.video)
        return {"tracks": (), "mask_size": (video.height, video.width), "num_frames": video.num_frames}
    first = segments[0].masks
    return {
        "tracks": tuple(track for segment in segments for track in segment.masks.tracks),
        "mask_size": first.size,
        "num_frames": first.num_frames,
        "mask_frames": first.frames,
    }
