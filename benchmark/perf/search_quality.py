"""Quality of frame search on five real clips played one after the other: average precision, presence, time spans.

    python benchmark/perf/search_quality.py --media FOLDER
    python benchmark/perf/search_quality.py --media FOLDER --encoder CHECKPOINT --fps 2

FOLDER has the clips of `CLIPS`. Their frames are encoded as those of one video of 49 s, so that it is known when each
thing is seen. A frame is relevant to a query if it comes from a clip that shows it; average precision is over all
frames, without suppression. A query is present if its lift reaches the threshold of the encoder; the area under the
ROC curve (AUC) compares the lifts of present and absent queries for all thresholds. The IoU is that of the first span
with the clip.

The parameters of the encoder `imagenet-minilm` were chosen on the design queries. The held-out queries were written
down before and run once after that. The results are in docs/frame_index.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro
from numpy.typing import NDArray

from evqa import media
from evqa.media import Video
from evqa.retrieval.encoders import DEFAULT_ENCODER, Encoder, load_encoder
from evqa.retrieval.frame_grid import FrameGrid
from evqa.retrieval.frame_index import FrameIndex
from evqa.schema import Span

DOG, CUPS, BLOCKS, COFFEE, JUGGLING = range(5)
CLIPS = ("01_dog.mp4", "02_cups.mp4", "03_blocks.mp4", "04_coffee.mp4", "05_default_juggle.mp4")

Queries = Mapping[str, tuple[int, ...]]
"""Query -> clips that show it."""

FREE_TEXT: Queries = {
    "a dog": (DOG,),
    "a puppy": (DOG,),
    "an animal": (DOG,),
    "coffee being poured": (COFFEE,),
    "an espresso mug": (COFFEE,),
    "a hot drink": (COFFEE,),
    "a man juggling balls": (JUGGLING,),
    "throwing": (JUGGLING,),
    "a cup": (CUPS, COFFEE),
    "plastic cups": (CUPS,),
    "wooden toy blocks": (BLOCKS,),
    "stacking": (BLOCKS,),
}
"""Design queries in free text; of the last three ImageNet has no class."""

DESIGN: Queries = {
    **dict.fromkeys(("a spaniel", "a border collie", "a canine on a leash", "a pet"), (DOG,)),
    "a woman playing with her dog": (DOG,),
    **dict.fromkeys(
        ("a kettle", "a teapot", "a coffee pot", "a coffee mug", "a cup of coffee", "a beverage"), (COFFEE,)
    ),
    **dict.fromkeys(("a soccer ball", "a football", "a man kicking a ball", "a ball game"), (JUGGLING,)),
}
"""Design queries of nouns that ImageNet has."""

DESIGN_ABSENT = (
    *("an elephant", "a car", "a guitar", "an airplane", "a boat", "a piano", "a horse", "a snake", "a steam train"),
    *("a castle", "a pizza", "a computer keyboard", "a cat", "a bicycle", "a violin", "a church", "a banana"),
    *("an umbrella", "a television", "a shark"),
)

HELD_OUT: Queries = {
    **dict.fromkeys(("a setter", "a dog running", "puppies", "a leashed pet"), (DOG,)),
    **dict.fromkeys(("a mug", "pouring a drink", "a jug", "espresso", "a tea kettle", "a metal pot"), (COFFEE,)),
    **dict.fromkeys(("a soccer player", "a round ball", "playing football", "a ball in the air"), (JUGGLING,)),
}
"""Held-out queries of nouns that ImageNet has."""

HELD_OUT_ABSENT = (
    *("a zebra", "a truck", "a trumpet", "a helicopter", "a submarine", "a lion", "a bridge", "a hamburger", "a mouse"),
    *("a bus", "a rifle", "a lobster", "a tent", "a butterfly", "a clock", "a sofa", "a drum", "an owl", "skis"),
    "a spider",
)

SPANS: Mapping[str, int] = {"a dog": DOG, "a man juggling balls": JUGGLING}
"""Queries of the localiser -> clip."""


class JoinedClips(NamedTuple):
    """Clips as one video."""

    frames: FrameIndex
    clips: NDArray[np.int64]
    """[N] clip of each frame."""
    spans: tuple[Span, ...]
    """Span of each clip in seconds."""


def join_clips(folder: Path, encoder: Encoder, fps: float = 1.0) -> JoinedClips:
    """Encode the frames of the clips at `fps` frames per second, as those of one video."""
    videos = [media.probe_video(folder / name) for name in CLIPS]
    starts = np.cumsum([0.0, *(video.duration for video in videos)])
    times = np.arange(0, starts[-1], 1 / fps)
    clips = np.searchsorted(starts, times, side="right") - 1
    vectors: list[NDArray[np.float32]] = []
    seconds: list[float] = []
    for number, video in enumerate(videos):
        local = times[clips == number] - starts[number]
        indices = np.unique(np.maximum(np.searchsorted(video.times, local + 1e-9, side="right") - 1, 0))
        vectors.append(encoder.encode_images([image for _, image in media.read_frames(video, indices.tolist())]))
        seconds += (starts[number] + video.times[indices]).tolist()
    rows = np.arange(len(seconds))
    joined = Video(folder, videos[0].width, videos[0].height, np.array(seconds), float(starts[-1]))
    grid = FrameGrid(joined, rows + 1, rows, np.array(seconds))
    spans = tuple(Span(float(start), float(end)) for start, end in itertools.pairwise(starts))
    labels = np.repeat(np.arange(len(videos)), [len(part) for part in vectors])
    return JoinedClips(FrameIndex(grid, encoder, np.concatenate(vectors)), labels, spans)


def average_precision(scores: NDArray[np.float32], is_relevant: NDArray[np.bool_]) -> float:
    """Mean over the relevant frames of the precision at their rank, in [0, 1]."""
    ranked = is_relevant[np.argsort(-scores, kind="stable")]
    return float((np.cumsum(ranked) / np.arange(1, len(ranked) + 1))[ranked].mean())


def mean_average_precision(joined: JoinedClips, queries: Queries) -> float:
    """Mean of the average precision of queries."""
    precisions = [
        average_precision(joined.frames.scores(query), np.isin(joined.clips, clips)) for query, clips in queries.items()
    ]
    return float(np.mean(precisions))


def lifts(joined: JoinedClips, queries: Sequence[str]) -> NDArray[np.float64]:
    """Lift of each query."""
    return np.array([joined.frames.search(query, k=1).lift for query in queries])


def auc(present: NDArray[np.float64], absent: NDArray[np.float64]) -> float:
    """Probability that a present query has a greater lift than an absent one; equal lifts count half."""
    difference = present[:, None] - absent[None]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def span_iou(joined: JoinedClips, query: str, clip: int) -> float:
    """IoU of the first span of a query with a clip; 0 = no span."""
    spans = joined.frames.spans(query)
    if not spans:
        return 0.0
    (start, end), (gold_start, gold_end) = spans[0], joined.spans[clip]
    shared = max(0.0, min(end, gold_end) - max(start, gold_start))
    return shared / (end - start + gold_end - gold_start - shared)


def _print_set(joined: JoinedClips, name: str, present: Queries, absent: Sequence[str]) -> None:
    lifts_of_present, lifts_of_absent = lifts(joined, list(present)), lifts(joined, absent)
    threshold = joined.frames.encoder.presence_threshold
    print(
        f"| {name} | {len(present)} | {mean_average_precision(joined, present):.3f} | {len(absent)} | "
        f"{auc(lifts_of_present, lifts_of_absent):.3f} | {(lifts_of_present >= threshold).mean():.2f} | "
        f"{(lifts_of_absent >= threshold).mean():.2f} |"
    )


def main(media: Path, encoder: str = DEFAULT_ENCODER, fps: float = 1.0, queries: bool = False) -> None:  # noqa: FBT001, FBT002  (an option)
    """Measure frame search.

    Args:
        media: folder of the clips.
        encoder: name of an encoder, or folder or Hugging Face id of a checkpoint.
        fps: frames per second.
        queries: print each query.
    """
    joined = join_clips(media, load_encoder(encoder), fps)
    print(f"{encoder}, {fps:g} frames per second, {len(joined.clips)} frames, threshold of the lift ", end="")
    print(f"{joined.frames.encoder.presence_threshold:g}")
    print("| queries | present | mAP | absent | AUC | present at the threshold | absent at the threshold |")
    print("|---|---|---|---|---|---|---|")
    _print_set(joined, "free text (design)", FREE_TEXT, DESIGN_ABSENT)
    _print_set(joined, "nouns (design)", DESIGN, DESIGN_ABSENT)
    _print_set(joined, "nouns (held out)", HELD_OUT, HELD_OUT_ABSENT)
    for query, clip in SPANS.items():
        print(f"first span of {query!r}: IoU {span_iou(joined, query, clip):.2f}")
    if queries:
        _print_queries(joined)


def _print_queries(joined: JoinedClips) -> None:
    for query, clips in {
        **FREE_TEXT,
        **DESIGN,
        **HELD_OUT,
        **dict.fromkeys((*DESIGN_ABSENT, *HELD_OUT_ABSENT), ()),
    }.items():
        result = joined.frames.search(query, k=1)
        scores = joined.frames.scores(query)
        precision = f"{average_precision(scores, np.isin(joined.clips, clips)):.2f}" if clips else "-"
        spans = [(round(start, 1), round(end, 1)) for start, end in joined.frames.spans(query)[:3]]
        print(f"{query:30s} AP {precision:5s} lift {result.lift:7.2f} {result.is_present!s:5s} {spans}")


if __name__ == "__main__":
    tyro.cli(main)
