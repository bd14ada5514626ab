"""What a fine-tuning run is made of: sizes, mask decoders, and the typed config that a recipe fills in (`recipes`).

Every field of a config is a flag of `python -m unipixel.sft` (`--num-frames`, `--lr`, ...), and its docstring is
the flag's help.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_args

from tyro.conf import OmitArgPrefixes, Suppress

from evqa import suggestions

SIZES: dict[str, str] = {
    "3b": "unipixel-3b",
    "7b": "unipixel-7b",
    "tiny": "tiny",
}
"""Size of the language model -> checkpoint of the zoo that training starts from."""


class DecoderChoice(NamedTuple):
    """Where a mask decoder comes from."""

    size: str
    """Its name in `unipixel.model.config.DECODERS`; "" = what the start checkpoint has."""
    checkpoint: str | None
    """Checkpoint of the zoo that takes its place there; None = it stays."""


DECODERS: dict[str, DecoderChoice] = {
    "base": DecoderChoice("", None),
    "large": DecoderChoice("l", "sam2.1-large"),
    "tiny": DecoderChoice("", None),
}
"""Mask decoders: `base` is the one of the start checkpoint (SAM 2.1 Hiera base+ in the released models),
`large` puts SAM 2.1 Hiera large in its place, `tiny` is what the checkpoint of size tiny has."""

Module = Literal["embedding", "projector", "ref", "ref_enc", "msk", "seg", "sam2"]
"""Parts that can be trained in full: token embedding and output layer, vision projector, projections of
referring prompts, their encoder, the object-memory projection, the head that makes mask prompts, SAM 2."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What the model learns from."""

    datasets: tuple[tuple[str, float], ...]
    """Names or folders of data sets, each with how often an epoch holds it: 2 is twice, 0.25 a quarter."""
    num_frames: int = 8
    """Frames of a video that the language model sees; a shorter video gives all that it has."""
    sampling: Literal["random", "uniform", "evidence"] = "random"
    """random: a random frame of each of num-frames equal bins; uniform: evenly spread, with both ends; evidence: as
    random, but one frame at least is from each span of the evidence (without spans: shows each object)."""
    evidence_frames: Literal["annotated", "all"] = "annotated"
    """Of evidence whose masks are annotated in some frames (gen_mask), what is drawn from: annotated: these frames, as
    published; all: the whole video, where a frame without annotation counts as without evidence."""
    mask_frames: int = 0
    """How many of those frames SAM 2 sees, drawn the same way; 0 is all, as published. Fewer cost less."""
    min_pixels: int = 128 * 28 * 28
    """Least pixels of a frame for the language model."""
    max_pixels: int = 256 * 28 * 28
    """Most pixels of a frame for the language model; a video of fewer frames gets more (as published)."""
    max_tokens: int = 40960
    """A sample of more tokens is skipped and counted."""
    max_turns: int = 3
    """Of a sample that asks for several masks in turn, so many turns are drawn."""
    vary_prompt: bool = True
    """Ask for evidence in one of five wordings, drawn each time, as published; False: as at test time, always."""
    max_words: int = 200
    """A conversation whose first reply has more words is left out; 0 leaves none out."""
    max_video_frames: int = 500
    """A video of more frames, as its data set counts them, is left out; 0 leaves none out."""
    max_video_seconds: float = 300.0
    """A video that its data set says is longer is left out; 0 leaves none out."""
    grouping: Literal["none", "batch", "step"] = "step"
    """Samples of one kind and like length come together: in a forward pass of one device (batch), in a whole optimizer
    step (step, as published), or as chance has it (none)."""
    frame_cache: Path | None = None
    """Folder that keeps decoded frames of video files for later epochs and runs; None decodes each time anew."""
    frame_cache_gb: float = 50.0
    """Gigabytes (10^9 bytes) that the frame cache may take; frames used longest ago are removed."""
    skip_limit: float = 0.05
    """The run stops where more than this share of its samples fails to load: at once where chance does not explain it,
    at its end at the latest. A single one is never too many, unless the share is 0."""

    def __post_init__(self) -> None:
        if not self.datasets:
            raise ValueError("datasets is empty: name at least one data set, such as --datasets shapes-train 1")
        names = [name for name, _ in self.datasets]
        if len(set(names)) != len(names):
            raise ValueError(f"every data set can be named once, got {names}: add up the repeats")
        for name, repeat in self.datasets:
            if not (math.isfinite(repeat) and repeat > 0):
                raise ValueError(f"a repeat is a number > 0, got {repeat} for {name}: leave the data set out instead")
        _check_at_least(1, num_frames=self.num_frames, min_pixels=self.min_pixels, max_tokens=self.max_tokens)
        _check_at_least(1, max_turns=self.max_turns, frame_cache_gb=self.frame_cache_gb)
        _check_at_least(0, mask_frames=self.mask_frames, max_words=self.max_words)
        _check_at_least(0, max_video_frames=self.max_video_frames, max_video_seconds=self.max_video_seconds)
        if self.mask_frames > self.num_frames:
            raise ValueError(f"mask_frames is at most num_frames={self.num_frames}, got {self.mask_frames}")
        if self.max_pixels < self.min_pixels:
            raise ValueError(f"max_pixels is at least min_pixels={self.min_pixels}, got {self.max_pixels}")
        if not 0 <= self.skip_limit < 1:
            raise ValueError(f"skip_limit is a share in [0, 1), got {self.skip_limit}")


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """The low-rank adapter."""

    rank: int = 128
    """Rank of the adapter; 0 trains without one."""
    alpha: float = 256.0
    """The adapter's output is scaled by alpha / rank."""
    dropout: float = 0.1
    """Dropout at the adapter's input."""
    scope: Literal["qkvo_llm", "qkvo_visual", "qkvo_all", "linear_llm", "linear_visual", "linear_all"] = "qkvo_all"
    """Layers with an adapter: attention projections, or every linear layer; never of SAM 2."""

    def __post_init__(self) -> None:
        _check_at_least(0, rank=self.rank, alpha=self.alpha, dropout=self.dropout)
        if self.dropout >= 1:
            raise ValueError(f"dropout is in [0, 1), got {self.dropout}")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW, learning rates by part, one schedule."""

    lr: float = 2e-5
    """Peak learning rate of everything that has no rate of its own below."""
    lora_lr: float | None = None
    """Peak learning rate of the adapter; None is lr."""
    sam2_lr: float = 5e-6
    """Peak learning rate of SAM 2."""
    sam2_encoder_lr: float | None = None
    """Peak learning rate of SAM 2's image encoder; None is sam2-lr."""
    weight_decay: float = 0.0
    """Weight decay of matrices; biases and norms have none."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running means of the gradient and of its square."""
    warmup: float = 0.03
    """Share of the steps in which the rate rises from 0."""
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    """How the rate falls after that."""
    clip: float = 1.0
    """Norm that the gradient is clipped to; 0 clips nothing."""
    max_rise: float = 4.0
    """The run stops where the loss, averaged over some fifty steps, is so many times the lowest it was; 0 = never."""

    def __post_init__(self) -> None:
        _check_at_least(0, lr=self.lr, sam2_lr=self.sam2_lr, weight_decay=self.weight_decay, clip=self.clip)
        _check_at_least(0, lora_lr=self.lora_lr or 0, sam2_encoder_lr=self.sam2_encoder_lr or 0)
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is a share in [0, 1), got {self.warmup}")
        if self.max_rise != 0:
            _check_at_least(1, max_rise=self.max_rise)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the parts of the loss (published values)."""

    lm: float = 1.0
    """Cross-entropy of the reply's tokens."""
    focal: float = 100.0
    """Focal loss of the mask's pixels."""
    dice: float = 5.0
    """Overlap loss of the mask."""
    iou: float = 5.0
    """Error of the overlap that SAM 2 predicts for its own mask."""
    objectness: float = 5.0
    """Is the object in the frame at all."""

    def __post_init__(self) -> None:
        _check_at_least(0, **asdict(self))


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """Steps, precision, processes, checkpoints."""

    batch: int = 4
    """Samples of one forward pass on one device."""
    global_batch: int = 32
    """Samples of one optimizer step on all devices; gradients add up over as many passes as that takes."""
    lm_mean: Literal["step", "pass"] = "step"
    """step: the loss of the reply's tokens is their mean over the whole optimizer step, on all devices, however it is
    split; pass: the mean of each forward pass, then of the passes, as published: tokens of a short pass weigh more."""
    epochs: float = 1.0
    """Passes over the mixture; the last batch is filled up with the first samples of the pass that would follow."""
    max_steps: int = 0
    """Optimizer steps, instead of epochs; 0 goes by epochs."""
    bf16: bool = True
    """Compute in bfloat16 (weights that are trained stay in float32)."""
    gradient_checkpointing: bool = True
    """Recompute activations in the backward pass: far less memory, about a third more time."""
    zero: Literal[0, 1, 2, 3] | None = None
    """Train through DeepSpeed: 0 shards nothing, 1 the optimizer, 2 the gradients too, 3 the matrices of language model
    and vision tower too. None is torch's own data parallelism."""
    offload: bool = False
    """Keep the sharded optimizer's state in main memory (with --zero 1, 2 or 3; with 3 the sharded matrices too)."""
    liger: bool = False
    """Use the fused kernels of liger-kernel in the language model (a GPU and `pip install liger-kernel`)."""
    num_workers: int = 2
    """Processes a device that load samples; 0 loads in the training process."""
    num_threads: int = 0
    """Threads of torch on a CPU; 0 leaves torch's choice. On shared cores 1 is often fastest."""
    save_steps: int = 500
    """Optimizer steps between checkpoints."""
    keep: int = 2
    """Checkpoints kept."""
    log_steps: int = 10
    """Optimizer steps between log lines."""
    tensorboard: bool = True
    """Write TensorBoard events where tensorboard is installed."""
    wandb: bool = False
    """Log to Weights & Biases (`pip install wandb`, and its own environment variables)."""

    def __post_init__(self) -> None:
        _check_at_least(1, batch=self.batch, global_batch=self.global_batch, save_steps=self.save_steps)
        _check_at_least(1, keep=self.keep, log_steps=self.log_steps)
        _check_at_least(0, max_steps=self.max_steps, num_workers=self.num_workers, num_threads=self.num_threads)
        if self.max_steps == 0 and not (math.isfinite(self.epochs) and self.epochs > 0):
            raise ValueError(f"epochs is a number > 0 where max_steps is 0, got {self.epochs}")
        if self.global_batch % self.batch:
            raise ValueError(f"global_batch is a multiple of batch={self.batch}, got {self.global_batch}")
        if self.offload and not self.zero:
            raise ValueError("offload moves the sharded optimizer to main memory: use it with --zero 1, 2 or 3")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Looking at the model while it learns and when it is done."""

    eval_data: str | None = None
    """Data set with gold that is predicted and scored while training; None = none is."""
    eval_steps: int = 500
    """Optimizer steps between two such looks; there is one at the start and one at the end as well."""
    eval_samples: int = 32
    """Samples of it, evenly spread; 0 = all."""
    benchmark: str | None = None
    """Data set that `scripts/sft.sh` puts the finished model on; None = none."""

    def __post_init__(self) -> None:
        _check_at_least(1, eval_steps=self.eval_steps)
        _check_at_least(0, eval_samples=self.eval_samples)


@dataclass(frozen=True, kw_only=True)
class SFTConfig:
    """Fine-tune UniPixel on questions that want an answer, when it is seen, and which pixels show it."""

    size: Suppress[str]
    decoder: Suppress[str]
    recipe: Suppress[str]
    weights: str
    """Weights to start from: a name of the zoo or a folder."""
    out: Path
    """Folder of the run: checkpoints, logs, and the finished model in `model/`."""
    seed: int = 42
    """Seed of the order of the data, of the frames drawn, and of dropout."""
    clock: Literal["true", "marked", "legacy"] = "true"
    """What the model is told of time: true seconds, or as published that any video has 2 frames a second."""
    modules: tuple[Module, ...] = ("embedding", "ref", "ref_enc", "msk", "seg", "sam2")
    """Parts that are trained in full, beside the adapter."""
    sample_objects: int = 5
    """Of a sample with more objects, SAM 2 follows so many of them in a step, drawn at random; -1 = all."""
    data: Annotated[DataConfig, OmitArgPrefixes]
    lora: Annotated[LoraConfig, OmitArgPrefixes] = field(default_factory=LoraConfig)
    optimizer: Annotated[OptimizerConfig, OmitArgPrefixes] = field(default_factory=OptimizerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    loop: Annotated[LoopConfig, OmitArgPrefixes] = field(default_factory=LoopConfig)
    evaluation: Annotated[EvaluationConfig, OmitArgPrefixes] = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise suggestions.unknown_name_message("size", self.size, SIZES)
        if self.decoder not in DECODERS:
            raise suggestions.unknown_name_message("decoder", self.decoder, DECODERS)
        if self.decoder == "tiny" and self.size != "tiny":
            raise ValueError(f"the decoder tiny belongs to the size tiny: take base or large with {self.size}")
        unknown = set(self.modules) - set(get_args(Module))
        if unknown:
            raise ValueError(f"unknown modules {sorted(unknown)}; the modules are: {', '.join(get_args(Module))}")
        if self.sample_objects != -1:
            _check_at_least(1, sample_objects=self.sample_objects)
        if not self.modules and self.lora.rank == 0:
            raise ValueError("nothing is trained: name modules, or give the adapter a rank")

    def accumulation(self, processes: int) -> int:
        """Forward passes of one device per optimizer step."""
        together = self.loop.batch * processes
        if self.loop.global_batch % together:
            raise ValueError(
                f"global_batch {self.loop.global_batch} is no multiple of batch {self.loop.batch} x "
                f"{processes} processes: choose --batch and --global-batch so that it is"
            )
        return self.loop.global_batch // together

    def steps(self, num_items: int) -> int:
        """Optimizer steps of the run over a mixture of `num_items` per epoch."""
        if self.loop.max_steps:
            return self.loop.max_steps
        steps, rest = divmod(int(self.loop.epochs * num_items), self.loop.global_batch)
        if steps == 0:
            raise ValueError(
                f"{self.loop.epochs} epochs of {num_items} samples fill no batch of "
                f"{self.loop.global_batch}: lower --global-batch (and --batch), or raise --epochs or repeats"
            )
        return steps + (rest > 0)

    def group_size(self) -> int:
        """Consecutive samples of the order that are of one kind and like length (see `data.grouping`)."""
        return {"none": 1, "batch": self.loop.batch, "step": self.loop.global_batch}[self.data.grouping]

    def warmup_steps(self, num_steps: int) -> int:
        """Steps in which the learning rate rises."""
        return math.ceil(self.optimizer.warmup * num_steps)


def _check_at_least(least: int, **values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value >= least):
            raise ValueError(f"{name} is a number >= {least}, got {value}")


STARTS = {
    "stage-1": "python -m unipixel.convert model_zoo/new-3b --base Qwen2.5-VL-3B-Instruct "
    "--decoder sam2.1_hiera_base_plus.pt (or 7b, 7B)",
    "stage-2": "bash scripts/sft.sh SIZE DECODER --recipe stage-1",
    "stage-3": "bash scripts/sft.sh SIZE DECODER --recipe stage-2",
}
"""Recipe -> the command that makes the weights it starts from, where they are in no zoo."""
