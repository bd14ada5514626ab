"""Multiple-choice questions about a scene, each with the object that is its evidence.

A question is `named` when it gives a color or shape of the evidence object; otherwise the object has to be found by
what it does. Options: the right value, the values of the other two objects, two values that are nowhere in the scene.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evqa.tasks.shapes.scene import COLORS, LOOKS, PATHS, SHAPES, Scene, Thing, shuffled

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
class Question:
    """One question about a scene."""

    kind: str
    """Cue and answer, such as `event>color`."""
    text: str
    options: tuple[str, ...]
    answer: int
    target: int
    """Index of the evidence object."""
    named: bool


def questions(scene: Scene) -> list[Question]:
    """Every question that can be asked about a scene, in a fixed order; option order is drawn from the scene's seed."""
    rng = np.random.default_rng((scene.seed, 11))
    asked: list[Question] = []
    for index, thing in enumerate(scene.things):
        for kind, text, named in _about(scene, thing):
            attribute = kind.split(">")[1]
            options, answer = _options(rng, scene, index, attribute)
            asked.append(Question(kind, text, options, answer, index, named))
    return asked


def expression(thing: Thing) -> str:
    """A referring expression."""
    return f"the {thing.color} {thing.shape}"


def _about(scene: Scene, thing: Thing) -> list[tuple[str, str, bool]]:
    """(kind, text, named) of the questions whose evidence is this object."""
    act = ACTS[thing.event]
    found = [
        ("color>event", f"What does the {thing.color} object do?", True),
        ("shape>event", f"What does the {thing.shape} do?", True),
        ("color>shape", f"What shape is the {thing.color} object that {act}?", True),
        ("event>color", f"What color is the object that {act}?", False),
        ("event>shape", f"What shape is the object that {act}?", False),
    ]
    if thing.event == "moves":
        other = next(other for other in scene.things if other is not thing)
        still = f"What color is the object that moved while the {other.color} one stood still?"
        found.append(("still>color", still, False))
    order = _order(scene, thing)
    if order:
        found.append(("order>color", f"What color is the object that acts {order}?", False))
        found.append(("order>event", f"What does the object that acts {order} do?", False))
    return found


def _order(scene: Scene, thing: Thing) -> str | None:
    """`first` / `last` where the object's first event begins clearly (2 frames) before / after all others."""
    starts = [other.events[0][0] for other in scene.things if other is not thing]
    mine = thing.events[0][0]
    if all(mine + 2 <= other for other in starts):
        return "first"
    if all(mine >= other + 2 for other in starts):
        return "last"
    return None


def _options(rng: np.random.Generator, scene: Scene, target: int, attribute: str) -> tuple[tuple[str, ...], int]:
    seen = [str(getattr(thing, attribute)) for thing in scene.things]
    absent = [value for value in VALUES[attribute] if value not in seen]
    if scene.level == 1:
        absent = [value for value in absent if value not in PATHS]
    shown = shuffled(rng, [*seen, *shuffled(rng, absent)[:2]])
    return tuple(shown), shown.index(seen[target])
