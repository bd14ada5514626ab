"""Fine-tune: `python -m unipixel.sft SIZE DECODER [--recipe NAME] [--FIELD VALUE ...]`.

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
from dataclasses import dataclass
from pathlib import Path

import tyro
from tyro.conf import FlagConversionOff

from unipixel import orphans, run_folder
from unipixel.configs import DECODERS, SIZES, SFTConfig
from unipixel.footprint import footprint
from unipixel.job import Job, prepare
from unipixel.recipes import RECIPES, default_recipe, recipe

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Command:
    """What the command line asks for."""

    config: SFTConfig
    from_scratch: bool = False
    resume: Path | None = None
    print_config: bool = False
    dry_run: bool = False


USAGE = f"""\
usage: python -m unipixel.sft SIZE DECODER [OPTIONS]     (bash scripts/sft.sh SIZE DECODER: on every GPU)

  SIZE             {", ".join(SIZES)}
  DECODER          {", ".join(DECODERS)}
  --recipe NAME    {", ".join(RECIPES)}: sets every option below; one that is given replaces its value
  --from-scratch   remove the checkpoints and the model in the run's folder and start again
  --resume PATH    go on from this checkpoint instead of the newest one in the run's folder
  --print-config   print the whole config as JSON and stop
  --dry-run        estimate the memory, take one step on one batch a device, print what it costs; nothing is kept

  python -m unipixel.sft tiny base                             a few minutes on a CPU
  python -m unipixel.sft 3b base --dry-run                     does it run here, and how fast
  python -m unipixel.sft 3b base --num-frames 16 --out outputs/sft/16-frames

The same command goes on where a run was cut off. The options, with the values of the recipe:

"""


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 = done, 2 = it cannot run as asked, 3 = the run diverged."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if "TORCHELASTIC_RUN_ID" in os.environ:  # set by torchrun
        orphans.end_with(os.getppid())
    rank, processes = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    level = logging.INFO if rank == 0 else logging.ERROR
    logging.basicConfig(level=level, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        return run(parse(arguments), rank=rank, processes=processes)
    except (ValueError, FloatingPointError) as error:
        where = "" if rank == 0 else f" in process {rank}"
        sys.stderr.write(f"error{where}: {error}\n")
        return 3 if isinstance(error, FloatingPointError) else 2


def parse(arguments: list[str]) -> Command:
    """The command line: size, decoder and recipe give a config, every other flag replaces one field of it."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--recipe")
    first.add_argument("--resume", type=Path)
    for flag in ("--from-scratch", "--print-config", "--dry-run"):
        first.add_argument(flag, action="store_true")
    known, rest = first.parse_known_args(arguments)
    if known.resume is not None and known.from_scratch:
        raise ValueError(f"give one of --resume {known.resume} and --from-scratch")
    names = [rest.pop(0) for _ in range(2) if rest and not rest[0].startswith("-")]
    if "-h" in rest or "--help" in rest:
        sys.stdout.write(USAGE)
        names = names if len(names) == 2 else ["3b", "base"]
    if len(names) < 2:
        raise ValueError(f"name a size ({', '.join(SIZES)}) and a decoder ({', '.join(DECODERS)}), got {arguments}")
    size, decoder = names
    default = recipe(known.recipe or default_recipe(size), size, decoder)
    config = tyro.cli(
        SFTConfig,
        args=rest,
        default=default,
        prog=f"python -m unipixel.sft {size} {decoder}",
        config=(FlagConversionOff,),
    )
    return Command(
        config=config,
        from_scratch=known.from_scratch,
        resume=known.resume,
        print_config=known.print_config,
        dry_run=known.dry_run,
    )


def run(command: Command, *, rank: int, processes: int) -> int:
    """Check that everything is there, then train."""
    config = command.config
    if command.print_config:
        sys.stdout.write(json.dumps(dataclasses.asdict(config), indent=2, default=str) + "\n")
        return 0
    job = prepare(config, processes)
    if command.dry_run:
        dry_run(job)
    elif is_finished(command, job.record):
        logger.info("finished: %s (--from-scratch starts again)", config.out / run_folder.MODEL)
    else:
        checkpoint = checkpoint_of(command, job.record)
        with run_folder.held(config.out) if rank == 0 else contextlib.nullcontext():
            if rank == 0:
                tidy(command, job.record)
            train(job, checkpoint)
    return 0


def is_finished(command: Command, record: run_folder.Record) -> bool:
    """Whether the run's model is there; a `ValueError` where it was made with other settings."""
    model = command.config.out / run_folder.MODEL
    if command.from_scratch or not model.exists():
        return False
    run_folder.check_fits(model, record)
    return True


def checkpoint_of(command: Command, record: run_folder.Record) -> Path | None:
    """The checkpoint to go on from; None = start at the beginning."""
    if command.from_scratch:
        return None
    out = command.config.out
    existing = run_folder.checkpoints(out)
    checkpoint = command.resume or (existing[-1] if existing else None)
    if checkpoint is None:
        return None
    run_folder.check_fits(checkpoint, record)
    if run_folder.step_of(checkpoint) < 0:
        raise ValueError(f"{checkpoint} is no checkpoint to go on from: name a folder checkpoint-N of a run")
    later = [folder.name for folder in existing if run_folder.step_of(folder) > run_folder.step_of(checkpoint)]
    if later:
        raise ValueError(
            f"{out} holds {', '.join(later)}, later than {checkpoint}: move them away, or use another --out"
        )
    logger.info("going on from %s", checkpoint)
    return checkpoint


def tidy(command: Command, record: run_folder.Record) -> None:
    """Make the run's folder ready: nothing half-written, nothing of an earlier run with --from-scratch."""
    out = command.config.out
    if command.from_scratch:
        remove_run(out)
    run_folder.clean(out)
    run_folder.write_record(out, record)


def remove_run(out: Path) -> None:
    """Remove what an earlier run left in a folder: checkpoints, model, list of skipped samples, logs."""
    parts = [out / name for name in (run_folder.MODEL, run_folder.LOOKS, "runs")]
    for folder in [*run_folder.checkpoints(out), *parts]:
        if folder.exists():
            logger.warning("removing %s", folder)
            shutil.rmtree(folder)
    (out / run_folder.SKIPPED).unlink(missing_ok=True)


def train(job: Job, checkpoint: Path | None) -> None:
    """Train to the end and write the finished model."""
    from unipixel import assembly

    trainer = assembly.assemble(job)
    logger.info("training %s of %s weights", *(f"{count:,}" for count in assembly.counts(trainer.trained)[:2]))
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    if trainer.is_world_process_zero():
        logger.info("the finished model is %s", assembly.write_finished(job))
    trainer.finish()


def dry_run(job: Job) -> None:
    """The memory of the weights by arithmetic, then one optimizer step of one pass a device, which is thrown away."""
    from unipixel import assembly
    from unipixel.books import peak_memory

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
        trainer = assembly.assemble(dataclasses.replace(job, config=shortened, num_steps=1), is_saving=False)
        counts = assembly.counts(trainer.trained)
        estimate = footprint(counts, config.loop, job.processes)
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
    sys.exit(main())
