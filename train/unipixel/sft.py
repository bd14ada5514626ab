"""Fine-tune: `python -m unipixel.sft [SIZE [DECODER [CHECKPOINT]]] [--recipe NAME] [--FIELD VALUE ...]`.

The same command goes on where a run was cut off, and does nothing where it is finished. Missing weights or
data are reported, with the command that fetches them, before anything heavy is imported.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from tyro.conf import FlagConversionOff

from evqa.files import links
from evqa.files.output_streams import checked_output_streams
from evqa.files.roots import START_FOLDER
from unipixel import integrity
from unipixel.configs import DECODERS, SIZES, SFTConfig
from unipixel.recipes import RECIPES, build_recipe, default_recipe
from unipixel.training import checkpoint_folder, parent_death
from unipixel.training.memory_estimate import estimate_memory
from unipixel.training.plan import TrainingPlan, plan_training

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SFTCommand:
    """What the command line asks for."""

    config: SFTConfig
    from_scratch: bool = False
    resume: Path | None = None
    extend: bool = False
    print_config: bool = False
    dry_run: bool = False


DEFAULTS = ("3b", "base")
"""Size and decoder where none is named, as published."""

USAGE = f"""\
usage: python -m unipixel.sft [SIZE [DECODER [CHECKPOINT]]] [OPTIONS]     (bash scripts/sft.sh ...: on every GPU)

  SIZE             {", ".join(SIZES)} (default: {DEFAULTS[0]})
  DECODER          {", ".join(DECODERS)} (default: {DEFAULTS[1]})
  CHECKPOINT       the same as --resume CHECKPOINT
  --recipe NAME    {", ".join(RECIPES)}: sets every option below; one that is given replaces its value
  --from-scratch   remove the checkpoints and the model in the run's folder and start again
  --resume PATH    go on from this checkpoint instead of the newest one in the run's folder
  --extend         train a run that is finished, or was cut off, for more steps: with a larger --max-steps or --epochs;
                   the learning rate goes on by the schedule of the new length
  --print-config   print the whole config as JSON and stop
  --dry-run        estimate the memory, take one step on one batch a device, print what it costs; nothing is kept
  --allow-root DIR {links.HELP}

  python -m unipixel.sft tiny base                             a few minutes on a CPU
  python -m unipixel.sft 3b base --dry-run                     does it run here, and how fast
  python -m unipixel.sft 3b base --num-frames 16 --out outputs/sft/16-frames

Both spellings of each option work, --from-scratch and --from_scratch. The published commands work as they are, from the
project's root and from train/:

  bash scripts/sft.sh                                     = bash scripts/sft.sh 3b base
  bash scripts/sft.sh 3b base --from_scratch              = bash scripts/sft.sh 3b base --from-scratch
  bash scripts/sft.sh 3b base PATH/checkpoint-2000        = bash scripts/sft.sh 3b base --resume PATH/checkpoint-2000

The same command goes on where a run was cut off, without --zero on another number of processes too.
The options, with the values of the recipe:

"""


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 = done, 2 = it cannot run as asked, 3 = the run diverged."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if "TORCHELASTIC_RUN_ID" in os.environ:  # set by torchrun
        parent_death.die_with_parent(os.getppid())
    rank, processes = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    level = logging.INFO if rank == 0 else logging.ERROR
    logging.basicConfig(level=level, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        return run(parse(arguments), rank=rank, processes=processes)
    except BrokenPipeError:
        raise  # `checked_output_streams` ends the process
    except (ValueError, FloatingPointError, OSError) as error:
        where = "" if rank == 0 else f" in process {rank}"
        sys.stderr.write(f"error{where}: {error}\n")
        return 3 if isinstance(error, FloatingPointError) else 2


def normalize_arguments(arguments: Sequence[str]) -> list[str]:
    """A command line in our spelling: size and decoder first, the published checkpoint argument as --resume.

    The defaults fill in what is not named, `--from_scratch` becomes `--from-scratch`, and empty arguments (an unset
    variable of a shell script) in the first places are left out. The result gives itself again.
    """
    known, rest = _own_options().parse_known_args([with_hyphens(word) for word in arguments])
    words: list[str] = []
    while rest and not rest[0].startswith("-"):
        words.append(rest.pop(0))
    words = [word for word in words if word.strip()]
    if len(words) > 3:
        raise ValueError(f"expected at most SIZE, DECODER and CHECKPOINT before the options, got {words}")
    size, decoder = (*words[:2], *DEFAULTS[len(words[:2]) :])
    if len(words) == 3 and known.resume is not None:
        raise ValueError(f"a checkpoint to go on from is named twice: {words[2]} and --resume {known.resume}")
    checkpoint = _checkpoint_path(words[2]) if len(words) == 3 else known.resume
    if checkpoint is not None and known.from_scratch:
        raise ValueError(f"give one of the checkpoint {checkpoint} (--resume) and --from-scratch")
    if known.extend and known.from_scratch:
        raise ValueError("give one of --extend and --from-scratch: the first goes on, the second starts again")
    options = [] if known.recipe is None else ["--recipe", known.recipe]
    options += [] if checkpoint is None else ["--resume", str(checkpoint)]
    options += [word for folder in known.allow_root for word in (links.OPTION, str(folder))]
    options += [flag for flag in FLAGS if getattr(known, flag[2:].replace("-", "_"))]
    return [size, decoder, *options, *rest]


FLAGS = ("--from-scratch", "--extend", "--print-config", "--dry-run")
"""Options without a value that are not part of the config."""


def _own_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--recipe")
    parser.add_argument(links.OPTION, type=Path, action="append", default=[])
    parser.add_argument("--resume", "--resume-from-checkpoint", type=Path)
    for flag in FLAGS:
        parser.add_argument(flag, action="store_true")
    return parser


def with_hyphens(word: str) -> str:
    """An option's name with hyphens; its value and every other word as they are."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return f"{name.replace('_', '-')}{equals}{value}"


def _checkpoint_path(word: str) -> Path:
    """The absolute path of the third argument, which starts where the command was typed."""
    path = Path(os.environ.get(START_FOLDER, ""), word)
    if not path.is_dir() and Path(word).is_dir():
        path = Path(word)
    if not path.is_dir():
        raise ValueError(f"no checkpoint at {path.resolve()}: the third argument is a folder checkpoint-N of a run")
    return path.resolve()


def parse(arguments: Sequence[str]) -> SFTCommand:
    """The command line: size, decoder and recipe give a config, every other flag replaces one field of it."""
    if "-h" in arguments or "--help" in arguments:
        sys.stdout.write(USAGE)
    size, decoder, *options = normalize_arguments(arguments)
    known, rest = _own_options().parse_known_args(options)
    links.allow_roots(known.allow_root)
    default = build_recipe(known.recipe or default_recipe(size), size, decoder)
    config = tyro.cli(
        SFTConfig,
        args=rest,
        default=default,
        prog=f"python -m unipixel.sft {size} {decoder}",
        config=(FlagConversionOff,),
    )
    return SFTCommand(
        config=config,
        from_scratch=known.from_scratch,
        resume=known.resume,
        extend=known.extend,
        print_config=known.print_config,
        dry_run=known.dry_run,
    )


def run(command: SFTCommand, *, rank: int, processes: int) -> int:
    """Check that everything is there, then train."""
    config = command.config
    if command.print_config:
        sys.stdout.write(json.dumps(dataclasses.asdict(config), indent=2, default=str) + "\n")
        return 0
    job = plan_training(config, processes)
    if command.dry_run:
        with one_line_errors(config.out):
            dry_run(job)
    elif is_finished(command, job):
        logger.info(
            "finished: %s (--from-scratch starts again; --extend with a larger --max-steps or --epochs goes on)",
            config.out / checkpoint_folder.MODEL,
        )
    else:
        checkpoint = checkpoint_of(command, job, is_deep=rank == 0)
        with checkpoint_folder.locked(config.out) if rank == 0 else contextlib.nullcontext():
            if rank == 0:
                prepare_folder(command, job.record)
            with one_line_errors(config.out):
                train(job, checkpoint)
    return 0


@contextlib.contextmanager
def one_line_errors(out: Path) -> Iterator[None]:
    """Errors that come from outside this program end as a `ValueError` that says how the run goes on."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if (cause := outer_cause(error)) is None:
            raise
        raise ValueError(f"{cause}; {checkpoint_folder.resume_advice(out)}") from error


def outer_cause(error: Exception) -> str | None:
    """What outside this program made it fail, in a line; None = nothing that is known.

    That is the disk, shared memory, memory of a GPU, a killed process of the loader, or another process of the run.
    """
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if any(sign in str(error) for sign in ("closed by peer", "reset by peer", "remote process exited")):
        return f"another process of the run ended, or the network between them failed ({reason})"
    if "out of memory" in str(error):
        return f"{reason} (lower --batch or --max-pixels, or shard the model with --zero 2 or 3)"
    signs = ("No space left", "DataLoader worker")
    return reason if isinstance(error, OSError) or any(sign in str(error) for sign in signs) else None


def is_finished(command: SFTCommand, job: TrainingPlan) -> bool:
    """Whether the run's model is there; a `ValueError` where it was made with other settings, or lacks files."""
    model = command.config.out / checkpoint_folder.MODEL
    if command.from_scratch or not model.exists():
        return False
    if command.extend and checkpoint_folder.differing_settings(checkpoint_folder.read_record(model), job.record):
        checkpoint_folder.check_fits(model, job.record, is_extension=True)
        return False
    checkpoint_folder.check_fits(model, job.record)
    names = ("model.safetensors", "model.safetensors.index.json")
    lost = [] if any((model / name).is_file() for name in names) else ["model.safetensors is missing"]
    if damage := integrity.weights_damage(model, is_deep=False) or lost:
        raise ValueError(
            f"{model} is not complete: {'; '.join(damage)}: remove it, and the same command makes it again"
        )
    return True


def checkpoint_of(command: SFTCommand, job: TrainingPlan, *, is_deep: bool = True) -> Path | None:
    """The checkpoint to go on from; None = start at the beginning.

    `is_deep`: compare the hashes of its files, which reads them once.
    """
    if command.from_scratch:
        return None
    out = command.config.out
    existing = checkpoint_folder.checkpoints(out)
    checkpoint = command.resume or (existing[-1] if existing else None)
    if checkpoint is None:
        if command.extend:
            raise ValueError(f"--extend goes on with a run, and {out} has no checkpoint: leave it out to start one")
        return None
    step = checkpoint_folder.step_of(checkpoint)
    if step < 0 or not checkpoint.is_dir():
        raise ValueError(f"{checkpoint} is no checkpoint to go on from: name a folder checkpoint-N of a run")
    checkpoint_folder.check_complete(checkpoint, is_deep=False)
    checkpoint_folder.check_fits(checkpoint, job.record, is_extension=command.extend)
    if later := [folder.name for folder in existing if checkpoint_folder.step_of(folder) > step]:
        raise ValueError(
            f"{out} holds {', '.join(later)}, later than {checkpoint}: move them away, or use another --out"
        )
    if step > job.num_steps:
        raise ValueError(f"{checkpoint} is beyond the {job.num_steps} steps of this run: raise --max-steps or --epochs")
    if is_deep:
        checkpoint_folder.check_complete(checkpoint)
    logger.info("going on from %s", checkpoint)
    return checkpoint


def prepare_folder(command: SFTCommand, record: checkpoint_folder.Record) -> None:
    """Make the run's folder ready: nothing half-written, nothing of an earlier run with --from-scratch."""
    out = command.config.out
    if command.from_scratch:
        remove_run(out)
    checkpoint_folder.remove_partial(out)
    checkpoint_folder.write_record(out, record)


def remove_run(out: Path) -> None:
    """Remove what an earlier run left in a folder: checkpoints, model, list of skipped samples, logs."""
    parts = [out / name for name in (checkpoint_folder.MODEL, checkpoint_folder.LOOKS, "runs")]
    for folder in [*checkpoint_folder.checkpoints(out), *parts]:
        if folder.exists():
            logger.warning("removing %s", folder)
            shutil.rmtree(folder)
    (out / checkpoint_folder.SKIPPED).unlink(missing_ok=True)


def train(job: TrainingPlan, checkpoint: Path | None) -> None:
    """Train to the end and write the finished model."""
    from unipixel.training import build

    trainer = build.build_trainer(job)
    logger.info("training %s of %s weights", *(f"{count:,}" for count in build.parameter_counts(trainer.trained)[:2]))
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    if trainer.is_world_process_zero():
        logger.info("the finished model is %s", build.export_merged_model(job))
    trainer.finish()


def dry_run(job: TrainingPlan) -> None:
    """The memory of the weights by arithmetic, then one optimizer step of one pass a device, which is thrown away."""
    from unipixel.training import build
    from unipixel.training.statistics import peak_memory

    config = job.config
    loop = dataclasses.replace(
        config.loop,
        global_batch=config.loop.batch * job.processes,
        max_steps=1,
        log_steps=1,
        num_workers=0,
        tensorboard=False,
        wandb=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        shortened = dataclasses.replace(config, loop=loop, out=Path(folder))
        trainer = build.build_trainer(dataclasses.replace(job, config=shortened, num_steps=1), is_saving=False)
        counts = build.parameter_counts(trainer.trained)
        estimate = estimate_memory(counts, config.loop, job.processes)
        logger.info("training %s of %s weights: %s", f"{counts.trained:,}", f"{counts.total:,}", estimate)
        before = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - before
    logger.info(
        "one pass of %d samples a device took %.1f s and %.1f GiB of %s; the run has %d steps, %d passes a device",
        config.loop.batch,
        seconds,
        peak_memory(),
        "GPU memory" if trainer.args.device.type == "cuda" else "memory",
        job.num_steps,
        config.accumulation(job.processes) * job.num_steps,
    )
    trainer.finish()


if __name__ == "__main__":
    with checked_output_streams():
        sys.exit(main())
