"""Multiple-choice questions about a scene, each with the object that is its evidence.

A question is `named` when it gives a color or shape of the evidence object; otherwise the object has to be found by
what it does. Options: the right value, the values of the other two objects, two values that are nowhere in the scene.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evqa.datasets.shapes.scene import COLORS, LOOKS, PATHS, SHAPES, SceneObject, SyntheticScene, shuffle

VALUES = {"color": tuple(COLORS), "shape": SHAPES, "event": (*LOOKS, *PATHS)}

ACTS = {
    "glows": "glows",
    "grows": "grows",
    "shrinks": "shrinks",
    "opens": "opens",
    "splits": "splits",
    "enters": "enters late",
    "vanishes": "vanishes",
    "moves": "moves across",
}
"""Event -> words of the question."""


@dataclass(frozen=True)
class ShapesQuestion:
    """One question about a scene."""

    kind: str
    """Cue and answer, such as `event>color`."""
    cue: str
    """The words that tell the evidence object, as they stand in the text: "the red", "that glows", "acts first"."""
    text: str
    options: tuple[str, ...]
    answer: int
    target: int
    """Index of the evidence object."""
    named: bool


def questions(scene: SyntheticScene) -> list[ShapesQuestion]:
    """Every question that can be asked about a scene, in a fixed order; option order is drawn from the scene's seed."""
    rng = np.random.default_rng((scene.seed, 11))
    asked: list[ShapesQuestion] = []
    for index, thing in enumerate(scene.things):
        for kind, cue, text in _about(scene, thing):
            attribute = kind.split(">")[1]
            options, answer = _options(rng, scene, index, attribute)
            named = kind.startswith(("color", "shape"))
            asked.append(ShapesQuestion(kind, cue, text, options, answer, index, named))
    return asked


def expression(thing: SceneObject) -> str:
    """A referring expression."""
    return f"the {thing.color} {thing.shape}"


def _about(scene: SyntheticScene, thing: SceneObject) -> list[tuple[str, str, str]]:
    """(kind, cue, text) of the questions whose evidence is this object."""
    color, shape, act = f"the {thing.color}", f"the {thing.shape}", f"that {ACTS[thing.event]}"
    found = [
        ("color>event", color, f"What does {color} object do?"),
        ("shape>event", shape, f"What does {shape} do?"),
        ("color>shape", color, f"What shape is {color} object {act}?"),
        ("event>color", act, f"What color is the object {act}?"),
        ("event>shape", act, f"What shape is the object {act}?"),
    ]
    if thing.event == "moves":
        other = next(other for other in scene.things if other is not thing)
        cue = f"that moved while the {other.color} one stood still"
        found.append(("still>color", cue, f"What color is the object {cue}?"))
    order = _order(scene, thing)
    if order:
        cue = f"acts {order}"
        found.append(("order>color", cue, f"What color is the object that {cue}?"))
        found.append(("order>event", cue, f"What does the object that {cue} do?"))
    return found


def _order(scene: SyntheticScene, thing: SceneObject) -> str | None:
    """`first` or `last`, where nobody could take it otherwise: 2 frames between it and all events of the others.

    The first one begins before any other begins; the last one begins after every other has begun, and ends after it.
    """
    others = [event for other in scene.things if other is not thing for event in other.events]
    if all(thing.events[0][0] + 2 <= start for start, _ in others):
        return "first"
    if all(thing.events[0][0] >= start + 2 and thing.events[-1][1] >= end + 2 for start, end in others):
        return "last"
    return None


def _options(
    rng: np.random.Generator, scene: SyntheticScene, target: int, attribute: str
) -> tuple[tuple[str, ...], int]:
    seen = [str(getattr(thing, attribute)) for thing in scene.things]
    absent = [value for value in VALUES[attribute] if value not in seen]
    if scene.level == 1:
        absent = [value for value in absent if value not in PATHS]
    shown = shuffle(rng, [*seen, *shuffle(rng, absent)[:2]])
    return tuple(shown), shown.index(seen[target])
