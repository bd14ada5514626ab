"""Language stages of pre-training: option letters, times and objects, on short tasks about clips.

The stages form a curriculum; trained jointly, all tasks stay at chance for tens of thousands of clips:

    time              each frame pair has one cell of one object: time and type of its event, its color and shape
    options           answer options and their letters
    object-grounding  each frame pair has one cell of every object: which object a cue refers to
    qa                the published format of question and response, mostly on one object (else letters stay at chance)
    visual-qa         all cells, features of the trained vision tower on rendered clips

Up to `qa` the features of cells are sums of word vectors and no frame is rendered. Essential is a task with a cue
followed directly by the times, so that the token of the cue has to attend to the object (`packing.TaskWriter.cue`).
Additional labels: which cells show which object, and the color at `<|seg|>`. The vision tower and the word vectors
are frozen.
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
from tiny_base.packing import LETTER, NO_COLOR, ClipContext, PackedBatch, PackedTask, TaskWriter, pack
from tiny_base.schedule import PretrainingSchedule, PretrainingStep
from unipixel.model.unipixel import UniPixel

logger = logging.getLogger(__name__)

TaskName = Literal["full", "short", "cue", "name", "value", "match", "pick", "recall"]
View = Literal["target", "objects", "all"]
"""Cells of a frame pair in the sequence: one of the target object, one of each object, all nine."""

COLOR_WEIGHT = 0.5
"""Weight of the color classification loss at `<|seg|>`."""


@dataclass(frozen=True, kw_only=True)
class LanguageStage:
    """A stage of the curriculum."""

    view: View
    tasks: Mapping[TaskName, int]
    """Number of each task per clip."""
    schedule: PretrainingSchedule
    batch: int = 16
    """Clips per step."""
    easier: tuple[View, float] = ("objects", 0.0)
    """Another view, and the share of steps with it."""
    excluded_cues: str = "acts"
    """Prefix of the cues that the task `full` excludes; fine-tuning learns to use them in full questions."""


class LanguageModelWithColorHead(nn.Module):
    """The language model with a color classifier on the hidden state at `<|seg|>`, which later is the mask prompt."""

    def __init__(self, model: UniPixel) -> None:
        super().__init__()
        self.language = model.model.language_model
        self.color = nn.Linear(model.config.language.hidden_size, len(COLORS))

    def forward(self, packed: PackedBatch) -> tuple[Tensor, Tensor]:
        """Return the hidden states [B, L, D] after and before the last norm."""
        embedded = self.language.embed_tokens(packed.ids).index_put(packed.cell_places, packed.cells)
        before_norm: list[Tensor] = []
        hook = self.language.norm.register_forward_pre_hook(lambda _, arguments: before_norm.append(arguments[0]))
        output = self.language(
            inputs_embeds=embedded,
            position_ids=packed.positions,
            attention_mask={"full_attention": packed.mask},
            use_cache=False,
        )
        hook.remove()
        return output.last_hidden_state, before_norm[0]


def train(
    model: LanguageModelWithColorHead, clips: ClipSet, stage: LanguageStage, writer: TaskWriter, seed: int
) -> None:
    """Train the language model on one stage."""
    rng = np.random.default_rng((seed, 3))
    model.train()
    words = model.language.embed_tokens.requires_grad_(requires_grad=False).weight
    order = _order(len(clips), rng)
    for step in stage.schedule.steps(model.parameters(), logger):
        view = stage.easier[0] if rng.random() < stage.easier[1] else stage.view
        batch = [clips[next(order)] for _ in range(stage.batch)]
        sequences = [sequence(clip, view, stage, writer, rng) for clip in batch]
        packed = pack(sequences, writer, clips.time_positions)
        step.minimise(_loss(model, packed, words, writer, step))


def _order(count: int, rng: np.random.Generator) -> Iterator[int]:
    """Yield indices without end, in a new order per epoch."""
    while True:
        yield from rng.permutation(count).tolist()


def _loss(
    model: LanguageModelWithColorHead, packed: PackedBatch, words: Tensor, writer: TaskWriter, step: PretrainingStep
) -> Tensor:
    after, before = model(packed)
    weights, targets = packed.weights[:, 1:], packed.ids[:, 1:]
    is_target = weights > 0
    logits = after[:, :-1][is_target] @ words.T
    errors = F.cross_entropy(logits, targets[is_target], reduction="none")
    loss = (errors * weights[is_target]).sum() / weights[is_target].sum()
    is_time = torch.isin(targets[is_target], torch.tensor(sorted(writer.times)))
    is_right = (logits.argmax(1) == targets[is_target]).float()
    is_choice = (weights[is_target] >= LETTER / 2) & ~is_time
    step.record("time loss", errors[is_time].detach().mean())
    step.record("choices", is_right[is_choice].mean())
    is_seg = packed.colors != NO_COLOR
    if not is_seg.any():
        return loss
    color_logits = model.color(before[is_seg])
    step.record("colors", (color_logits.argmax(1) == packed.colors[is_seg]).float().mean())
    return loss + COLOR_WEIGHT * F.cross_entropy(color_logits, packed.colors[is_seg])


def sequence(
    clip: EncodedClip, view: View, stage: LanguageStage, writer: TaskWriter, rng: np.random.Generator
) -> tuple[ClipContext, list[PackedTask]]:
    """The cells of a clip and tasks about it, on level-1 events only, which are visible in a single frame."""
    target = int(rng.integers(len(clip.scene.things))) if view == "target" else None
    questions = [question for question in clip.questions if _is_suitable(question, clip.scene, target)]
    write: dict[TaskName, Callable[[ShapesQuestion, SceneObject], PackedTask]] = {
        "full": writer.full,
        "short": writer.short,
        "cue": writer.cue,
        "name": writer.name,
        "value": writer.value,
        "match": writer.match,
        "pick": writer.pick,
        "recall": writer.recall,
    }
    tasks: list[PackedTask] = []
    for task, count in stage.tasks.items():
        candidates = [q for q in questions if task != "full" or not q.cue.startswith(stage.excluded_cues)]
        sampled = [candidates[index] for index in rng.permutation(len(candidates))[:count]]
        tasks += [write[task](question, clip.scene.things[question.target]) for question in sampled]
    return clip.context(view, target, rng), tasks


def _is_suitable(question: ShapesQuestion, scene: SyntheticScene, target: int | None) -> bool:
    if scene.things[question.target].event not in LOOKS:
        return False
    return target is None or (question.target == target and not question.kind.startswith("order"))
