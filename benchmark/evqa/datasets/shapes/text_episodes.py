"""Synthetic episodes without pixels: telegraphic dialogue and descriptions of objects over a closed vocabulary.

In each clip two people name the place of an item each, and three objects are visible. Every item is mentioned in one
clip of an episode only. Kinds of questions:

    dialogue   where an item is: the subtitles of the clip that mentions it say so
    visual     an attribute of an object while they talk about an item: a look at the clip that mentions it says so

Each of them starts either in that clip (`current`) or in another one (`other`), in equal shares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from evqa.datasets.shapes.scene import shuffle

MIN_CLIPS, MAX_CLIPS = 6, 8
LINES_PER_CLIP = 2
OBJECTS_PER_CLIP = 3
NUM_OPTIONS = 5
KINDS = ("dialogue-current", "dialogue-other", "visual-current", "visual-other")
"""Kinds of questions, by what they need and where they start."""

SPEAKERS = ("ann", "bob", "cleo", "dan")
ITEMS = (
    *("key", "map", "coin", "ring", "book", "letter", "lamp", "rope"),
    *("drum", "kite", "spoon", "candle", "basket", "mirror", "hammer", "ticket"),
)
PLACES = ("kitchen", "garden", "hall", "cellar", "attic", "garage", "tower", "stable")
OBJECTS = ("cup", "chair", "ball", "box", "dog", "door", "clock", "flag")
ATTRIBUTES = {
    "colour": ("red", "green", "blue", "yellow", "purple", "orange"),
    "shape": ("round", "square", "tall", "flat", "long", "narrow"),
    "action": ("rolling", "falling", "turning", "jumping", "sliding", "shaking"),
}
WORDS = (
    *SPEAKERS,
    *ITEMS,
    *PLACES,
    *OBJECTS,
    *ATTRIBUTES,
    *(value for values in ATTRIBUTES.values() for value in values),
    *("says", ".", "where", "is", "the", "?", "what", "while", "they", "talk", "about"),
)
"""All words of dialogue, descriptions, questions and options."""


class Line(NamedTuple):
    """A line of dialogue."""

    speaker: str
    item: str
    place: str

    @property
    def text(self) -> str:
        """The line in words."""
        return f"{self.speaker} says {self.item} {self.place} ."


@dataclass(frozen=True)
class TextClip:
    """A clip: its dialogue and its visible objects."""

    lines: tuple[Line, ...]
    objects: dict[str, dict[str, str]]
    """Object -> attribute -> value."""

    @property
    def items(self) -> tuple[str, ...]:
        """Items that the dialogue mentions."""
        return tuple(line.item for line in self.lines)

    @property
    def descriptions(self) -> tuple[str, ...]:
        """What is visible, a line per object."""
        return tuple(
            " ".join([name, *(word for pair in values.items() for word in pair)])
            for name, values in self.objects.items()
        )


@dataclass(frozen=True)
class TextQuestion:
    """A question about an episode."""

    kind: str
    text: str
    options: tuple[str, ...]
    answer: int
    clip: int
    """Clip with the evidence."""
    start: int
    """Clip that the question starts with."""
    item: str
    """Item that the question is about."""
    target: str | None = None
    """Object that it asks about; None = it is about the dialogue."""
    attribute: str | None = None
    """Attribute of the object."""

    @property
    def cue(self) -> str:
        """Word behind which the evidence has the answer."""
        return self.attribute or self.item


@dataclass(frozen=True)
class TextEpisode:
    """An episode and its questions, one of each kind."""

    seed: int
    clips: tuple[TextClip, ...]
    questions: tuple[TextQuestion, ...]


def text_episode(seed: int) -> TextEpisode:
    """Return the episode of a seed."""
    rng = np.random.default_rng((seed, 16))
    count = int(rng.integers(MIN_CLIPS, MAX_CLIPS + 1))
    items = iter(shuffle(rng, ITEMS))
    clips = tuple(_clip(rng, [next(items) for _ in range(LINES_PER_CLIP)]) for _ in range(count))
    lines = [divmod(int(line), LINES_PER_CLIP) for line in rng.permutation(count * LINES_PER_CLIP)]
    questions = tuple(_question(rng, clips, kind, line) for kind, line in zip(KINDS, lines, strict=False))
    return TextEpisode(seed, clips, questions)


def _clip(rng: np.random.Generator, items: list[str]) -> TextClip:
    speakers, places = shuffle(rng, SPEAKERS), shuffle(rng, PLACES)
    lines = tuple(Line(*fields) for fields in zip(speakers, items, places, strict=False))
    objects = {
        name: {attribute: shuffle(rng, values)[0] for attribute, values in ATTRIBUTES.items()}
        for name in shuffle(rng, OBJECTS)[:OBJECTS_PER_CLIP]
    }
    return TextClip(lines, objects)


def _question(
    rng: np.random.Generator, clips: tuple[TextClip, ...], kind: str, evidence: tuple[int, int]
) -> TextQuestion:
    place, row = evidence
    clip, item = clips[place], clips[place].lines[row].item
    start = place if kind.endswith("current") else _another(rng, len(clips), place)
    if kind.startswith("dialogue"):
        right = clip.lines[row].place
        options = _options(rng, right, [line.place for line in clip.lines], PLACES)
        text = f"where is the {item} ?"
        return TextQuestion(kind, text, options, options.index(right), place, start, item)
    target, attribute = shuffle(rng, tuple(clip.objects))[0], shuffle(rng, tuple(ATTRIBUTES))[0]
    right = clip.objects[target][attribute]
    in_other_clips = [scene.objects[target][attribute] for scene in clips if target in scene.objects]
    close = [*(values[attribute] for values in clip.objects.values()), *in_other_clips]
    options = _options(rng, right, close, ATTRIBUTES[attribute])
    text = f"what {attribute} is the {target} while they talk about the {item} ?"
    return TextQuestion(kind, text, options, options.index(right), place, start, item, target, attribute)


def _another(rng: np.random.Generator, count: int, place: int) -> int:
    """Return another clip of an episode."""
    return int((place + rng.integers(1, count)) % count)


def _options(rng: np.random.Generator, right: str, close: list[str], values: tuple[str, ...]) -> tuple[str, ...]:
    """Return the options in random order: the answer, values that occur in the episode, then further values."""
    return tuple(shuffle(rng, list(dict.fromkeys([right, *close, *shuffle(rng, values)]))[:NUM_OPTIONS]))
