"""Multiple-choice questions about a scene, each with the object that is its evidence.

A question is `named` if it states the color or shape of the evidence object; otherwise the object has to be identified
by its event. Options: the right value, the values of the other two objects, two values that do not occur in the scene.
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
"""Event -> phrase of a question."""


@dataclass(frozen=True)
class ShapesQuestion:
    """One question about a scene."""

    kind: str
    """Cue and answer, such as `event>color`."""
    cue: str
    """Phrase of the text that identifies the evidence object: "the red", "that glows", "acts first"."""
    text: str
    options: tuple[str, ...]
    answer: int
    target: int
    """Index of the evidence object."""
    is_named: bool


def questions(scene: SyntheticScene) -> list[ShapesQuestion]:
    """Return all questions about a scene in a fixed order; the order of options is drawn from the scene's seed."""
    rng = np.random.default_rng((scene.seed, 11))
    candidates: list[ShapesQuestion] = []
    for index, item in enumerate(scene.things):
        for kind, cue, text in _questions_of(scene, item):
            attribute = kind.split(">")[1]
            options, answer = _options(rng, scene, index, attribute)
            is_named = kind.startswith(("color", "shape"))
            candidates.append(ShapesQuestion(kind, cue, text, options, answer, index, is_named))
    return candidates


def expression(item: SceneObject) -> str:
    """Return a referring expression for an object."""
    return f"the {item.color} {item.shape}"


def _questions_of(scene: SyntheticScene, item: SceneObject) -> list[tuple[str, str, str]]:
    """Return (kind, cue, text) of the questions whose evidence is an object."""
    color, shape, act = f"the {item.color}", f"the {item.shape}", f"that {ACTS[item.event]}"
    candidates = [
        ("color>event", color, f"What does {color} object do?"),
        ("shape>event", shape, f"What does {shape} do?"),
        ("color>shape", color, f"What shape is {color} object {act}?"),
        ("event>color", act, f"What color is the object {act}?"),
        ("event>shape", act, f"What shape is the object {act}?"),
    ]
    if item.event == "moves":
        neighbor = next(neighbor for neighbor in scene.things if neighbor is not item)
        cue = f"that moved while the {neighbor.color} one stood still"
        candidates.append(("still>color", cue, f"What color is the object {cue}?"))
    order = _order(scene, item)
    if order:
        cue = f"acts {order}"
        candidates.append(("order>color", cue, f"What color is the object that {cue}?"))
        candidates.append(("order>event", cue, f"What does the object that {cue} do?"))
    return candidates


def _order(scene: SyntheticScene, item: SceneObject) -> str | None:
    """Return `first` or `last` where an object's event is so without doubt, by at least 2 frames; else None.

    The first event starts before all others start; the last one starts and ends after all others.
    """
    events = [event for neighbor in scene.things if neighbor is not item for event in neighbor.events]
    if all(item.events[0][0] + 2 <= start for start, _ in events):
        return "first"
    if all(item.events[0][0] >= start + 2 and item.events[-1][1] >= end + 2 for start, end in events):
        return "last"
    return None


def _options(
    rng: np.random.Generator, scene: SyntheticScene, target: int, attribute: str
) -> tuple[tuple[str, ...], int]:
    present = [str(getattr(item, attribute)) for item in scene.things]
    absent = [value for value in VALUES[attribute] if value not in present]
    if scene.level == 1:
        absent = [value for value in absent if value not in PATHS]
    options = shuffle(rng, [*present, *shuffle(rng, absent)[:2]])
    return tuple(options), options.index(present[target])
