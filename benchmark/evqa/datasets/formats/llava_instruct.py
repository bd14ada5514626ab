"""Reader of conversations about an image, a video or neither: LLaVA-665k with VideoGPT+ 576k.

    [{"image" or "video": PATH,
      "conversations": [{"from": "human", "value": TEXT}, {"from": "gpt", "value": TEXT}, ...]}, ...]

The first question has `<image>` or `<video>` at the position of the visual input; here that always comes first, so the
mark is removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from evqa.datasets.formats import json_stream
from evqa.datasets.formats.fields import find_below, numbered_rows, place_of, require
from evqa.datasets.formats.json_stream import array, mapping, text
from evqa.files.jsonl import BadLine
from evqa.schema import NO_VIDEO, Sample, TrainingExchange

FILE = "llava_v1_5_mix665k_with_videogpt_plus_576k.json"
MARKS = ("<image>", "<video>")
SPEAKERS = ("human", "gpt")


def samples(folder: Path, bad: list[BadLine]) -> Iterator[Sample]:
    """`Reader` of one sample per conversation. Published ids repeat, so the id is the position in the file."""
    path = require(folder, FILE, f"general/{FILE}")
    roots = {"image": place_of(folder, "llava_instruct", "."), "video": place_of(folder, "videogpt_plus", ".")}
    read = partial(_sample, roots)
    for number, entry in enumerate(json_stream.elements(path), 1):
        yield from numbered_rows([(f"entry {number}", (number, entry))], read, bad, number)


def _sample(roots: Mapping[str, Path], item: tuple[int, object]) -> Sample:
    number, entry = item
    fields = mapping(entry, "conversation")
    kinds = [kind for kind in roots if fields.get(kind)]
    if len(kinds) > 1:
        raise ValueError("conversation is about an image and a video")
    kind = kinds[0] if kinds else "text"
    turns = _turns(array(fields.get("conversations"), "conversations"))
    duration = fields.get("duration")
    return Sample(
        id=f"{kind}-{number}",
        video_id=str(fields[kind]) if kinds else f"{kind}-{number}",
        video=find_below(roots[kind], fields[kind], kind) if kinds else NO_VIDEO,
        question=turns[0].question,
        task_type="conversation",
        turns=turns,
        duration=float(duration) if isinstance(duration, int | float) and duration > 0 else None,
        source="videogpt_plus_576k" if kind == "video" else "llava_instruct_665k",
    )


def _turns(entries: list[object]) -> tuple[TrainingExchange, ...]:
    turns = [mapping(entry, "turn") for entry in entries]
    if not turns or len(turns) % 2 or any(turn.get("from") != SPEAKERS[place % 2] for place, turn in enumerate(turns)):
        speakers = [str(turn.get("from"))[:20] for turn in turns][:6]
        raise ValueError(f"turns do not alternate: {len(turns)} turns, by {speakers}")
    texts = [text(turn.get("value"), "value of a turn") for turn in turns]
    texts[0] = _without_mark(texts[0])
    pairs = zip(texts[::2], texts[1::2], strict=True)
    return tuple(TrainingExchange(question=question, response=response) for question, response in pairs)


def _without_mark(words: str) -> str:
    for mark in MARKS:
        words = words.removeprefix(f"{mark}\n").removesuffix(f"\n{mark}")
    return text(words.replace("<image>", "").replace("<video>", ""), "first question")
