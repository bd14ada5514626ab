"""The language stages: the model learns letters, times and objects on exercises about clips.

A curriculum, because everything at once stays at chance for tens of thousands of clips:

    timing    the clip shows one cell of one object: when its event is, what it looks like
    letters   options and their letters
    binding   the clip shows one cell of every object: which one a cue means
    answering the published form of question and reply, mostly on one object, or letters stay at chance
    watching  every cell, features of the trained vision tower on drawn clips

Up to `answering` the cells are sums of word vectors; no picture is drawn. What made it work: a cue with the times right
behind it, so that the cue's own token has to find the object (`packing.Writer.cue`). Extra labels: which cells show
which object, and the color at `<|seg|>`. The vision tower and the word vectors stay fixed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evqa.datasets.shapes.questions import ShapesQuestion
from evqa.datasets.shapes.scene import COLORS, LOOKS, SceneObject, SyntheticScene
from tiny_base.clips import ClipSet, EncodedClip
from tiny_base.packing import LETTER, NOT_ASKED, ClipContext, PackedBatch, PackedTask, TaskWriter, pack
from tiny_base.schedule import PretrainingSchedule, PretrainingStep
from unipixel.model.unipixel import UniPixel

logger = logging.getLogger(__name__)

Task = Literal["full", "short", "cue", "name", "value", "match", "pick", "recall"]
View = Literal["target", "objects", "all"]
"""Which cells a clip shows: those of one object, one cell per object, all nine."""

COLOR_WEIGHT = 0.5
"""Of naming the color at `<|seg|>`, beside the words."""


@dataclass(frozen=True, kw_only=True)
class LanguageStage:
    """A part of the curriculum."""

    view: View
    tasks: Mapping[Task, int]
    """Exercises of each task per clip."""
    schedule: PretrainingSchedule
    batch: int = 16
    """Clips per step."""
    easier: tuple[View, float] = ("objects", 0.0)
    """Another view, and the share of steps that have it."""
    held_back: str = "acts"
    """Start of the cues that `full` leaves out: learned on their own, they are for fine-tuning to put to use."""


class LanguageTrainee(nn.Module):
    """The language model with a color classifier on its state at `<|seg|>`, which later becomes the mask prompt."""

    def __init__(self, model: UniPixel) -> None:
        super().__init__()
        self.language = model.model.language_model
        self.color = nn.Linear(model.config.language.hidden_size, len(COLORS))

    def forward(self, packed: PackedBatch) -> tuple[Tensor, Tensor]:
        """States [B, L, D] after and before the last norm."""
        embedded = self.language.embed_tokens(packed.ids).index_put(packed.cell_places, packed.cells)
        kept: list[Tensor] = []
        hook = self.language.norm.register_forward_pre_hook(lambda _, arguments: kept.append(arguments[0]))
        output = self.language(
            inputs_embeds=embedded,
            position_ids=packed.positions,
            attention_mask={"full_attention": packed.mask},
            use_cache=False,
        )
        hook.remove()
        return output.last_hidden_state, kept[0]


def train(student: LanguageTrainee, clips: ClipSet, lesson: LanguageStage, writer: TaskWriter, seed: int) -> None:
    """One lesson."""
    rng = np.random.default_rng((seed, 3))
    student.train()
    words = student.language.embed_tokens.requires_grad_(requires_grad=False).weight
    order = _order(len(clips), rng)
    for step in lesson.schedule.steps(student.parameters(), logger):
        view = lesson.easier[0] if rng.random() < lesson.easier[1] else lesson.view
        chosen = [clips[next(order)] for _ in range(lesson.batch)]
        sequences = [sequence(clip, view, lesson, writer, rng) for clip in chosen]
        packed = pack(sequences, writer, clips.clock)
        step.minimise(_loss(student, packed, words, writer, step))


def _order(count: int, rng: np.random.Generator) -> Iterator[int]:
    """Indices for ever, each epoch in a new order."""
    while True:
        yield from rng.permutation(count).tolist()


def _loss(
    student: LanguageTrainee, packed: PackedBatch, words: Tensor, writer: TaskWriter, step: PretrainingStep
) -> Tensor:
    after, before = student(packed)
    weights, wanted = packed.weights[:, 1:], packed.ids[:, 1:]
    asked = weights > 0
    logits = after[:, :-1][asked] @ words.T
    errors = F.cross_entropy(logits, wanted[asked], reduction="none")
    loss = (errors * weights[asked]).sum() / weights[asked].sum()
    is_time = torch.isin(wanted[asked], torch.tensor(sorted(writer.times)))
    right = (logits.argmax(1) == wanted[asked]).float()
    is_choice = (weights[asked] >= LETTER / 2) & ~is_time
    step.record("time loss", errors[is_time].detach().mean())
    step.record("choices", right[is_choice].mean())
    drawn = packed.colors != NOT_ASKED
    if not drawn.any():
        return loss
    guesses = student.color(before[drawn])
    step.record("colors", (guesses.argmax(1) == packed.colors[drawn]).float().mean())
    return loss + COLOR_WEIGHT * F.cross_entropy(guesses, packed.colors[drawn])


def sequence(
    clip: EncodedClip, view: View, lesson: LanguageStage, writer: TaskWriter, rng: np.random.Generator
) -> tuple[ClipContext, list[PackedTask]]:
    """What is shown of a clip, and exercises about it; level-1 events only, so that each can be seen in one frame."""
    target = int(rng.integers(len(clip.scene.things))) if view == "target" else None
    asked = [q for q in clip.questions if _fits(q, clip.scene, target)]
    write: dict[Task, Callable[[ShapesQuestion, SceneObject], PackedTask]] = {
        "full": writer.full,
        "short": writer.short,
        "cue": writer.cue,
        "name": writer.name,
        "value": writer.value,
        "match": writer.match,
        "pick": writer.pick,
        "recall": writer.recall,
    }
    exercises: list[PackedTask] = []
    for task, count in lesson.tasks.items():
        posed = [q for q in asked if task != "full" or not q.cue.startswith(lesson.held_back)]
        picked = [posed[index] for index in rng.permutation(len(posed))[:count]]
        exercises += [write[task](question, clip.scene.things[question.target]) for question in picked]
    return clip.shown(view, target, rng), exercises


def _fits(question: ShapesQuestion, scene: SyntheticScene, target: int | None) -> bool:
    if scene.things[question.target].event not in LOOKS:
        return False
    return target is None or (question.target == target and not question.kind.startswith("order"))
