"""Pre-training of the tiny base model from random weights: `python -m tiny_base.make`.

Stages run in order; each is saved when it ends, so that the same command resumes after an interruption. The result is
a checkpoint with the published names of weights, in half precision, with its tokenizer.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
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
from tiny_base.language import LanguageModelWithColorHead
from tiny_base.packing import TaskWriter
from tiny_base.schedule import PretrainingSchedule
from unipixel import aliases
from unipixel.model import checkpoints

logger = logging.getLogger(__name__)

VISION = PretrainingSchedule(num_steps=4500, lr=3e-3)
MASK_DECODER = [
    decoder.DecoderStage(1, 16, 0.0, 0.0, PretrainingSchedule(num_steps=900, lr=2e-3)),
    decoder.DecoderStage(2, 16, 0.0, 0.1, PretrainingSchedule(num_steps=700, lr=2e-3)),
    decoder.DecoderStage(4, 8, 0.3, 0.2, PretrainingSchedule(num_steps=700, lr=1e-3)),
    decoder.DecoderStage(8, 4, 0.3, 0.2, PretrainingSchedule(num_steps=600, lr=1e-3)),
]
COLOR_SEPARATION = [
    decoder.DecoderStage(1, 16, 0.0, 0.2, PretrainingSchedule(num_steps=220, lr=2e-3), pair=("blue", "purple")),
    decoder.DecoderStage(4, 8, 0.1, 0.2, PretrainingSchedule(num_steps=250, lr=1.5e-3), pair=("blue", "purple")),
    decoder.DecoderStage(8, 4, 0.3, 0.2, PretrainingSchedule(num_steps=500, lr=1e-3), pair=("blue", "purple")),
]
"""The only two colors that the decoder still confuses after `MASK_DECODER`."""
TIME = language.LanguageStage(
    view="target", tasks={"cue": 8, "name": 3}, schedule=PretrainingSchedule(num_steps=300, lr=2e-3), batch=24
)
OPTIONS = language.LanguageStage(
    view="target",
    tasks={"match": 4, "recall": 5, "cue": 3, "name": 2},
    schedule=PretrainingSchedule(num_steps=320, lr=2e-3),
)
OBJECT_GROUNDING = language.LanguageStage(
    view="objects",
    tasks={"cue": 7, "name": 5, "value": 2, "short": 2, "recall": 1},
    schedule=PretrainingSchedule(num_steps=700, lr=2e-3),
    batch=20,
)
QA = language.LanguageStage(
    view="objects",
    tasks={"full": 5, "pick": 4, "recall": 1, "match": 1, "value": 1, "cue": 1},
    schedule=PretrainingSchedule(num_steps=300, lr=2e-3),
    easier=("target", 0.6),
)
VISUAL_QA = language.LanguageStage(
    view="all",
    tasks={"full": 1, "pick": 1, "short": 2, "cue": 4, "name": 2},
    schedule=PretrainingSchedule(num_steps=90, lr=1.5e-3),
    easier=("objects", 0.2),
    excluded_cues="acts last",
)
SEG_ALIGNMENT = language.LanguageStage(
    view="all", tasks={"full": 4, "short": 2}, schedule=PretrainingSchedule(num_steps=150, lr=2e-3)
)
NUM_SYNTHETIC_CLIPS = 4000
NUM_ENCODED_CLIPS, ENCODED_LEVEL2 = 900, 0.15

StageName = Literal[
    "vision",
    "mask-decoder",
    "color-separation",
    "time",
    "options",
    "object-grounding",
    "qa",
    "visual-qa",
    "seg-alignment",
]

EARLIER_NAMES: dict[StageName, str] = {
    "mask-decoder": "drawing",
    "color-separation": "telling",
    "time": "timing",
    "options": "letters",
    "object-grounding": "binding",
    "qa": "answering",
    "visual-qa": "watching",
    "seg-alignment": "aligning",
}
"""Stage -> its name in the files of earlier versions."""


def main(
    out: Path = Path("model_zoo/tiny"),
    work: Path = Path("outputs/tiny-base"),
    stages: tuple[StageName, ...] = get_args(StageName),
    seed: int = 0,
    time_encoding: Literal["absolute", "fixed-2fps"] = "absolute",
) -> None:
    """Train the tiny base model.

    Args:
        out: Folder of the finished checkpoint.
        work: Folder of the results and logs of the stages; delete it to start again.
        stages: Stages to run or load; the checkpoint is written after `seg-alignment`. Two processes can share the
            work: `vision mask-decoder color-separation` in one, `time options object-grounding qa` in the other, then
            all stages.
        seed: Random seed of the weights and of the clips of each stage.
        time_encoding: How frame times reach the language model; `vision` and `mask-decoder` do not depend on it.
    """
    torch.set_num_threads(1)
    work.mkdir(parents=True, exist_ok=True)
    handlers = [logging.StreamHandler(), logging.FileHandler(work / f"{'-'.join(stages)[:60]}.log")]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", handlers=handlers)
    curriculum = Curriculum(seed, time_encoding)
    for name in stages:
        curriculum.run_stage(name, work)
    if "seg-alignment" in stages:
        checkpoints.save_checkpoint(curriculum.model.half(), out, curriculum.tokenizer)
        logger.info("checkpoint written to %s", out)


class Curriculum:
    """The model and its pre-training stages. Each stage trains one part and leaves the others unchanged."""

    def __init__(self, seed: int, time_encoding: str = "absolute") -> None:
        self.seed = seed
        self.model, self.tokenizer = blank(seed, time_encoding)
        self.language, self.writer = LanguageModelWithColorHead(self.model), TaskWriter(self.tokenizer)
        self.prompts = nn.Parameter(torch.zeros(len(COLORS), *decoder.prompt_size(self.model)))
        mask_decoder = nn.ModuleDict({"tracker": self.model.sam2, "prompts": nn.ParameterList([self.prompts])})
        self._stages: dict[StageName, tuple[nn.Module, Callable[[], None]]] = {
            "vision": (
                self.model.model.visual,
                lambda: vision.train(self.model, self.tokenizer, VISION, seed),
            ),
            "mask-decoder": (mask_decoder, self._train_mask_decoder),
            "color-separation": (mask_decoder, lambda: self._train_decoder_stages(COLOR_SEPARATION, 7)),
            "time": (self.language, lambda: self._train_on_synthetic_features(TIME)),
            "options": (self.language, lambda: self._train_on_synthetic_features(OPTIONS)),
            "object-grounding": (self.language, lambda: self._train_on_synthetic_features(OBJECT_GROUNDING)),
            "qa": (self.language, lambda: self._train_on_synthetic_features(QA)),
            "visual-qa": (self.language, lambda: self._train_on_encoded_clips(VISUAL_QA)),
            "seg-alignment": (self.model.seg_head, self._align),
        }

    def run_stage(self, name: StageName, work: Path) -> None:
        """Run a stage and save its part of the model in a folder, or load it from there if the stage has run before."""
        part, run = self._stages[name]
        path = work / f"{name}.safetensors"
        stored = path if path.is_file() else work / f"{EARLIER_NAMES.get(name, name)}.safetensors"
        if stored.is_file():
            part.load_state_dict(load_file(stored))
            logger.info("stage %s: loaded from %s", name, stored)
            return
        started = time.process_time()
        run()
        logger.info("stage %s: %.1f CPU-minutes", name, (time.process_time() - started) / 60)
        partial = path.with_name(path.name + ".partial")
        save_file({key: value.clone().contiguous() for key, value in part.state_dict().items()}, partial)
        partial.replace(path)

    def _train_mask_decoder(self) -> None:
        torch.manual_seed(self.seed)
        nn.init.normal_(self.prompts)
        self._train_decoder_stages(MASK_DECODER, 2)

    def _train_decoder_stages(self, stages: list[decoder.DecoderStage], stream: int) -> None:
        decoder.train(self.model, self.prompts, stages, np.random.default_rng((self.seed, stream)))

    def _train_on_synthetic_features(self, stage: language.LanguageStage) -> None:
        language.train(self.language, self._synthetic_clips, stage, self.writer, self.seed)

    def _train_on_encoded_clips(self, stage: language.LanguageStage) -> None:
        language.train(self.language, self._encoded_clips, stage, self.writer, self.seed)

    def _align(self) -> None:
        align.train(self.model, self.language, self._encoded_clips, self.writer, self.prompts.detach(), SEG_ALIGNMENT)

    @cached_property
    def _synthetic_clips(self) -> clips.ClipSet:
        return clips.synthetic_features(self.model, self.tokenizer, NUM_SYNTHETIC_CLIPS, self.seed)

    @cached_property
    def _encoded_clips(self) -> clips.ClipSet:
        return clips.encoded_clips(self.model, NUM_ENCODED_CLIPS, self.seed, ENCODED_LEVEL2)


def current_arguments(arguments: Sequence[str]) -> list[str]:
    """Return a command line without earlier names of options and stages."""
    stages = {earlier: name for name, earlier in EARLIER_NAMES.items()}
    return [stages.get(argument, argument) for argument in aliases.current_arguments(arguments)]


if __name__ == "__main__":
    with checked_output_streams():
        tyro.cli(main, args=current_arguments(sys.argv[1:]))
