"""Make the tiny base model from random weights: `python -m tiny_base.make`.

Stages run in order, each saved when it ends, so that the same command goes on where it was stopped. The result is
a checkpoint in the published naming, in half precision, with its tokenizer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
import tyro
from safetensors.torch import load_file, save_file
from torch import nn

from evqa.datasets.shapes.scene import COLORS
from evqa.files.output_streams import checked_output_streams
from tiny_base import align, clips, decoder, language, vision
from tiny_base.blank import blank
from tiny_base.language import LanguageTrainee
from tiny_base.packing import TaskWriter
from tiny_base.schedule import PretrainingSchedule
from unipixel.model import checkpoints

logger = logging.getLogger(__name__)

SEEING = PretrainingSchedule(num_steps=4500, lr=3e-3)
DRAWING = [
    decoder.DecoderStage(1, 16, 0.0, 0.0, PretrainingSchedule(num_steps=900, lr=2e-3)),
    decoder.DecoderStage(2, 16, 0.0, 0.1, PretrainingSchedule(num_steps=700, lr=2e-3)),
    decoder.DecoderStage(4, 8, 0.3, 0.2, PretrainingSchedule(num_steps=700, lr=1e-3)),
    decoder.DecoderStage(8, 4, 0.3, 0.2, PretrainingSchedule(num_steps=600, lr=1e-3)),
]
TELLING = [
    decoder.DecoderStage(1, 16, 0.0, 0.2, PretrainingSchedule(num_steps=220, lr=2e-3), pair=("blue", "purple")),
    decoder.DecoderStage(4, 8, 0.1, 0.2, PretrainingSchedule(num_steps=250, lr=1.5e-3), pair=("blue", "purple")),
    decoder.DecoderStage(8, 4, 0.3, 0.2, PretrainingSchedule(num_steps=500, lr=1e-3), pair=("blue", "purple")),
]
"""After `DRAWING` nothing is mixed up but these two."""
TIMING = language.LanguageStage(
    view="target", tasks={"cue": 8, "name": 3}, schedule=PretrainingSchedule(num_steps=300, lr=2e-3), batch=24
)
LETTERS = language.LanguageStage(
    view="target",
    tasks={"match": 4, "recall": 5, "cue": 3, "name": 2},
    schedule=PretrainingSchedule(num_steps=320, lr=2e-3),
)
BINDING = language.LanguageStage(
    view="objects",
    tasks={"cue": 7, "name": 5, "value": 2, "short": 2, "recall": 1},
    schedule=PretrainingSchedule(num_steps=700, lr=2e-3),
    batch=20,
)
ANSWERING = language.LanguageStage(
    view="objects",
    tasks={"full": 5, "pick": 4, "recall": 1, "match": 1, "value": 1, "cue": 1},
    schedule=PretrainingSchedule(num_steps=300, lr=2e-3),
    easier=("target", 0.6),
)
WATCHING = language.LanguageStage(
    view="all",
    tasks={"full": 1, "pick": 1, "short": 2, "cue": 4, "name": 2},
    schedule=PretrainingSchedule(num_steps=90, lr=1.5e-3),
    easier=("objects", 0.2),
    held_back="acts last",
)
ALIGNING = language.LanguageStage(
    view="all", tasks={"full": 4, "short": 2}, schedule=PretrainingSchedule(num_steps=150, lr=2e-3)
)
IMAGINED_CLIPS = 4000
WATCHED_CLIPS, WATCHED_LEVEL2 = 900, 0.15

StageName = Literal["vision", "drawing", "telling", "timing", "letters", "binding", "answering", "watching", "aligning"]


def main(
    out: Path = Path("model_zoo/tiny"),
    work: Path = Path("outputs/tiny-base"),
    stages: tuple[StageName, ...] = get_args(StageName),
    seed: int = 0,
    clock: Literal["true", "legacy"] = "true",
) -> None:
    """Make the tiny base model.

    Args:
        out: Folder of the finished checkpoint.
        work: Folder of the stages' results and logs; delete it to start again.
        stages: Which stages to run or load; the checkpoint is written after the last one, `aligning`. Two processes can
            share the work: `vision drawing telling` in one, `timing letters binding answering` in the other, then all.
        seed: Of weights and of every stage's clips.
        clock: What the model is told of time; `vision` and `drawing` are the same under both.
    """
    torch.set_num_threads(1)
    work.mkdir(parents=True, exist_ok=True)
    handlers = [logging.StreamHandler(), logging.FileHandler(work / f"{'-'.join(stages)[:60]}.log")]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", handlers=handlers)
    school = Curriculum(seed, clock)
    for name in stages:
        school.stage(name, work / f"{name}.safetensors")
    if "aligning" in stages:
        checkpoints.save_checkpoint(school.model.half(), out, school.tokenizer)
        logger.info("written to %s", out)


class Curriculum:
    """The model and what its stages hand on. A stage trains one part; the others it leaves as they are."""

    def __init__(self, seed: int, clock: str = "true") -> None:
        self.seed = seed
        self.model, self.tokenizer = blank(seed, clock)
        self.student, self.writer = LanguageTrainee(self.model), TaskWriter(self.tokenizer)
        self.prompts = nn.Parameter(torch.zeros(len(COLORS), *decoder.prompt_size(self.model)))
        drawing = nn.ModuleDict({"tracker": self.model.sam2, "prompts": nn.ParameterList([self.prompts])})
        self._stages: dict[StageName, tuple[nn.Module, Callable[[], None]]] = {
            "vision": (
                self.model.model.visual,
                lambda: vision.train(self.model, self.tokenizer, SEEING, seed),
            ),
            "drawing": (drawing, self._draw),
            "telling": (drawing, lambda: self._follow(TELLING, 7)),
            "timing": (self.student, lambda: self._listen(TIMING)),
            "letters": (self.student, lambda: self._listen(LETTERS)),
            "binding": (self.student, lambda: self._listen(BINDING)),
            "answering": (self.student, lambda: self._listen(ANSWERING)),
            "watching": (self.student, lambda: self._watch(WATCHING)),
            "aligning": (self.model.seg_head, self._align),
        }

    def stage(self, name: StageName, path: Path) -> None:
        """Run a stage and save its part, or load that where the stage ran before."""
        part, run = self._stages[name]
        if path.is_file():
            part.load_state_dict(load_file(path))
            logger.info("stage %s: loaded from %s", name, path)
            return
        started = time.process_time()
        run()
        logger.info("stage %s: %.1f CPU-minutes", name, (time.process_time() - started) / 60)
        partial = path.with_name(path.name + ".partial")
        save_file({key: value.clone().contiguous() for key, value in part.state_dict().items()}, partial)
        partial.replace(path)

    def _draw(self) -> None:
        torch.manual_seed(self.seed)
        nn.init.normal_(self.prompts)
        self._follow(DRAWING, 2)

    def _follow(self, lessons: list[decoder.DecoderStage], stream: int) -> None:
        decoder.train(self.model, self.prompts, lessons, np.random.default_rng((self.seed, stream)))

    def _listen(self, lesson: language.LanguageStage) -> None:
        language.train(self.student, self._imagined, lesson, self.writer, self.seed)

    def _watch(self, lesson: language.LanguageStage) -> None:
        language.train(self.student, self._watched, lesson, self.writer, self.seed)

    def _align(self) -> None:
        align.train(self.model, self.student, self._watched, self.writer, self.prompts.detach(), ALIGNING)

    @cached_property
    def _imagined(self) -> clips.ClipSet:
        return clips.synthetic_features(self.model, self.tokenizer, IMAGINED_CLIPS, self.seed)

    @cached_property
    def _watched(self) -> clips.ClipSet:
        return clips.encoded_clips(self.model, WATCHED_CLIPS, self.seed, WATCHED_LEVEL2)


if __name__ == "__main__":
    with checked_output_streams():
        tyro.cli(main)
