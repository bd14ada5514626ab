"""Synthetic episodes: clips of synthetic scenes with dialogue, and questions that need dialogue, frames or both.

In each clip two people talk about a topic of its own, one of them brings a thing, and one wants a thing before and
another one after that; what they say has nothing to do with the scene. Kinds of questions:

    dialogue    what somebody brings: the subtitles say it
    order       what somebody wants after that: the order of the lines says it
    visual      the colour of the object with an event that occurs in one clip only
    located     the colour of the object with an event, in the clip with a topic
    comparison  the colours of such objects in two clips
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from evqa.datasets.shapes.questions import ShapesQuestion, questions
from evqa.datasets.shapes.scene import COLORS, SyntheticScene, scene, shuffle

NUM_CLIPS = 5
PEOPLE = ("Ann", "Bob", "Cleo", "Dan", "Eva", "Finn")
TOPICS = ("soup", "boat", "garden", "piano", "letter", "wedding", "storm", "train", "museum", "puppy")
THINGS = ("lamp", "rope", "spoon", "drum", "ball", "kite", "ladder", "basket", "candle", "blanket", "hammer", "mirror")


@dataclass(frozen=True)
class SyntheticClip:
    """A clip: its scene and its dialogue."""

    scene: SyntheticScene
    topic: str
    lines: tuple[str, ...]
    """`Ann : ...` in order."""
    giver: str
    wisher: str
    brought: str
    wishes: tuple[str, str]
    """What the second person wants before and after the thing is brought."""


class EpisodeQuestion(NamedTuple):
    """A question about an episode."""

    kind: str
    text: str
    options: tuple[str, ...]
    answer: int
    evidence: tuple[tuple[int, int | None], ...]
    """(clip, object of its scene; None = the dialogue) that the answer needs."""


@dataclass(frozen=True)
class SyntheticEpisode:
    """An episode and its questions."""

    seed: int
    clips: tuple[SyntheticClip, ...]
    questions: tuple[EpisodeQuestion, ...]


def episode(seed: int) -> SyntheticEpisode:
    """Return the episode of a seed."""
    rng = np.random.default_rng((seed, 21))
    topics = shuffle(rng, TOPICS)[:NUM_CLIPS]
    clips = tuple(_clip(rng, topic, scene(1000 * seed + place)) for place, topic in enumerate(topics))
    candidates = [
        _dialogue(rng, clips),
        _order(rng, clips),
        _visual(rng, clips),
        _located(rng, clips),
        _comparison(rng, clips),
    ]
    return SyntheticEpisode(seed, clips, tuple(question for question in candidates if question is not None))


def _clip(rng: np.random.Generator, topic: str, clip_scene: SyntheticScene) -> SyntheticClip:
    giver, wisher = shuffle(rng, PEOPLE)[:2]
    brought, first, second = shuffle(rng, THINGS)[:3]
    lines = (
        f"{giver} : Let us talk about the {topic} .",
        f"{wisher} : Then I want the {first} .",
        f"{giver} : I bring the {brought} for the {topic} .",
        f"{wisher} : Now I want the {second} .",
    )
    return SyntheticClip(clip_scene, topic, lines, giver, wisher, brought, (first, second))


def _dialogue(rng: np.random.Generator, clips: tuple[SyntheticClip, ...]) -> EpisodeQuestion:
    place = int(rng.integers(len(clips)))
    clip = clips[place]
    text = f"What does {clip.giver} bring for the {clip.topic}?"
    return _of_things(rng, "dialogue", text, clip.brought, clip.wishes, place)


def _order(rng: np.random.Generator, clips: tuple[SyntheticClip, ...]) -> EpisodeQuestion:
    place = int(rng.integers(len(clips)))
    clip = clips[place]
    text = f"What does {clip.wisher} want after {clip.giver} brings the {clip.brought} for the {clip.topic}?"
    return _of_things(rng, "order", text, clip.wishes[1], clip.wishes[:1], place)


def _of_things(
    rng: np.random.Generator, kind: str, text: str, right: str, present: tuple[str, ...], place: int
) -> EpisodeQuestion:
    absent = [name for name in shuffle(rng, THINGS) if name not in {right, *present}]
    options = shuffle(rng, [right, *present, *absent][:5])
    return EpisodeQuestion(kind, text, tuple(options), options.index(right), ((place, None),))


def _visual(rng: np.random.Generator, clips: tuple[SyntheticClip, ...]) -> EpisodeQuestion | None:
    events = [item.event for clip in clips for item in clip.scene.things]
    candidates = [
        (place, question)
        for place, clip in enumerate(clips)
        for question in _color_questions(clip)
        if events.count(clip.scene.things[question.target].event) == 1
    ]
    if not candidates:
        return None
    place, question = candidates[int(rng.integers(len(candidates)))]
    return EpisodeQuestion("visual", question.text, question.options, question.answer, ((place, question.target),))


def _located(rng: np.random.Generator, clips: tuple[SyntheticClip, ...]) -> EpisodeQuestion:
    place = int(rng.integers(len(clips)))
    question = _draw(rng, clips[place])
    text = f"{question.text.removesuffix('?')} while they talk about the {clips[place].topic}?"
    return EpisodeQuestion("located", text, question.options, question.answer, ((place, question.target),))


def _comparison(rng: np.random.Generator, clips: tuple[SyntheticClip, ...]) -> EpisodeQuestion:
    order = rng.permutation(len(clips))
    first, second = int(order[0]), int(order[1])
    pair = [_draw(rng, clips[place]) for place in (first, second)]
    colors = [question.options[question.answer] for question in pair]
    objects = [question.text.removeprefix("What color is ").removesuffix("?") for question in pair]
    parts = [
        f"{name} while they talk about the {clips[place].topic}"
        for place, name in zip((first, second), objects, strict=True)
    ]
    gold = " and ".join(colors)
    wrong = [f"{left} and {right}" for left in shuffle(rng, COLORS)[:3] for right in shuffle(rng, COLORS)[:3]]
    options = shuffle(rng, [gold, *[option for option in dict.fromkeys(wrong) if option != gold][:4]])
    text = f"What colors are {parts[0]}, and {parts[1]}?"
    evidence = tuple((place, question.target) for place, question in zip((first, second), pair, strict=True))
    return EpisodeQuestion("comparison", text, tuple(options), options.index(gold), evidence)


def _color_questions(clip: SyntheticClip) -> list[ShapesQuestion]:
    return [question for question in questions(clip.scene) if question.kind == "event>color"]


def _draw(rng: np.random.Generator, clip: SyntheticClip) -> ShapesQuestion:
    candidates = _color_questions(clip)
    return candidates[int(rng.integers(len(candidates)))]
