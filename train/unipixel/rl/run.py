"""Reinforcement learning of an agent: `python -m unipixel.rl.run [SIZE] [--recipe NAME] [--OPTION VALUE ...]`.

The same command resumes an interrupted run, and does nothing if the run is finished. Missing weights, data, agents and
packages are reported before torch is imported.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro
from tyro.conf import FlagConversionOff

from evqa.files import links
from evqa.files.output_streams import checked_output_streams
from unipixel import aliases
from unipixel.rl import run_record
from unipixel.rl.configs import RECIPES, SIZES, RLConfig, build_recipe, default_recipe
from unipixel.rl.plan import RLPlan, plan_run
from unipixel.rl.rewards import PRESETS, preset
from unipixel.training import checkpoint_folder, process

if TYPE_CHECKING:
    from unipixel.rl.grpo import EpisodeTask

logger = logging.getLogger(__name__)

DEFAULT_SIZE = "7b"

USAGE = f"""\
usage: python -m unipixel.rl.run [SIZE] [OPTIONS]     (bash scripts/rl.sh ...: on every GPU)

  SIZE             {", ".join(SIZES)} (default: {DEFAULT_SIZE})
  --recipe NAME    {", ".join(RECIPES)} (default: {default_recipe(DEFAULT_SIZE)}, of tiny: tiny): default values of the
                   options below
  --reward NAME    {", ".join(PRESETS)}: terms of the reward, in place of the recipe's
  --from-scratch   remove checkpoints, evaluations and the model in the run's folder and start again; also --overwrite
  --resume PATH    resume from this checkpoint instead of the newest one in the run's folder
  --print-config   print the config as JSON and exit
  --dry-run        report what is missing, estimate the memory, run one step with a single question, print its time by
                   phase and the time of the run; save nothing. It asks the agents
  --allow-root DIR {links.HELP}

  bash scripts/rl.sh tiny                                a tiny master on a CPU, with data, warm start and scores
  bash scripts/rl.sh 7b                                  the published hyper-parameters
  bash scripts/rl.sh 3b --agents grounding=bm25 vision=gpt-4o --zero-stage 2 --engine vllm
  bash scripts/rl.sh 7b --recipe grounded --subset 2000 --dry-run

The same command resumes an interrupted run. The options, with the defaults of the recipe:

"""


@dataclass(frozen=True, kw_only=True)
class RLCommand:
    """A parsed command line: the config of a run and what to do with its folder."""

    config: RLConfig
    from_scratch: bool = False
    resume: Path | None = None
    print_config: bool = False
    dry_run: bool = False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is that of `process.run_process`."""
    words = sys.argv[1:] if arguments is None else arguments
    return process.run_process(lambda rank, processes: run(parse(words), rank=rank, processes=processes))


def parse(arguments: Sequence[str]) -> RLCommand:
    """Parse a command line: size and recipe select a config, every other option sets a field of it.

    Raises:
        ValueError: there is no such size or recipe, or options exclude each other.
    """
    if "-h" in arguments or "--help" in arguments:
        sys.stdout.write(USAGE)
    size = arguments[0] if arguments and not arguments[0].startswith("-") else DEFAULT_SIZE
    rest = [aliases.hyphenated(word) for word in arguments]
    options, fields = _parser().parse_known_args(rest[1:] if rest and not rest[0].startswith("-") else rest)
    if options.resume is not None and options.from_scratch:
        raise ValueError(f"give one of --resume {options.resume} and --from-scratch")
    links.allow_roots(options.allow_root)
    default = build_recipe(options.recipe or default_recipe(size), size)
    if options.reward is not None:
        default = dataclasses.replace(default, rewards=preset(options.reward))
    config = tyro.cli(
        RLConfig,
        args=fields,
        default=default,
        prog=f"python -m unipixel.rl.run {size}",
        config=(FlagConversionOff,),
    )
    return RLCommand(
        config=config,
        from_scratch=options.from_scratch,
        resume=options.resume,
        print_config=options.print_config,
        dry_run=options.dry_run,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--recipe")
    parser.add_argument("--reward")
    parser.add_argument("--resume", "--resume-from-checkpoint", type=Path)
    parser.add_argument("--from-scratch", "--overwrite", action="store_true")
    parser.add_argument("--print-config", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument(links.OPTION, type=Path, action="append", default=[])
    return parser


def run(command: RLCommand, *, rank: int, processes: int) -> int:
    """Plan the run, then train, test or report it.

    Args:
        command: the parsed command line.
        rank: number of this process.
        processes: number of processes of the run.

    Raises:
        ValueError: something is missing, or the folder holds a run with other settings.
    """
    config, out = command.config, command.config.out
    if command.print_config:
        process.print_config(config)
        return 0
    plan = plan_run(config, processes)
    advice = partial(run_record.resume_advice, out)
    if command.dry_run:
        with process.one_line_errors(advice):
            dry_run(plan)
        return 0
    if not command.from_scratch and run_record.is_finished(out, plan.record):
        logger.info("already finished: %s (--from-scratch starts again)", out / checkpoint_folder.MODEL)
        return 0
    checkpoint = None
    if not command.from_scratch:
        checkpoint = run_record.checkpoint_of(out, plan.record, command.resume, is_deep=rank == 0)
    prepare = partial(run_record.prepare_folder, out, plan.record, from_scratch=command.from_scratch)
    with process.training_folder(out, rank=rank, prepare=prepare, advice=advice):
        train(plan, checkpoint)
    return 0


def train(plan: RLPlan, checkpoint: Path | None) -> None:
    """Train to the last step, evaluate, and export the merged model.

    Args:
        plan: the plan of the run.
        checkpoint: where to resume; None = start at step 0.
    """
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    from unipixel.rl import grpo, weights

    config = plan.config
    model, tokenizer = weights.load(plan.start, config)
    trainer = grpo.build_trainer(model, tokenizer, config, _task(plan), record=plan.record)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    unset_hf_deepspeed_config()  # models that are loaded after this are not sharded
    if trainer.is_world_process_zero():
        logger.info("model written to %s", weights.export_merged_model(plan.start, config, plan.record))
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()


def _task(plan: RLPlan) -> EpisodeTask:
    from unipixel.rl.grpo import EpisodeTask, start_with_team

    return EpisodeTask(
        samples=plan.data.train,
        start=start_with_team(plan.build_team(), plan.settings),
        held_out=plan.data.held_out,
        held_out_set=plan.data.held_out_set,
    )


def dry_run(plan: RLPlan) -> None:
    """Log the estimated memory, the time by phase of a step with one question per process, and that of the run."""
    from unipixel.rl import grpo, weights
    from unipixel.training.statistics import peak_memory

    config = plan.config
    logger.info("%d questions for training, %d held out", len(plan.data.train), len(plan.data.held_out))
    logger.info("%s", weights.memory_estimate(plan.start, config, plan.processes))
    batch = min(config.loop.per_device_batch_size, config.rollout.group_size)
    while config.rollout.group_size % batch:
        batch -= 1
    loop = dataclasses.replace(
        config.loop, steps=1, per_device_batch_size=batch, logging_steps=1, eval_steps=0, tensorboard=False, wandb=False
    )
    rollout = dataclasses.replace(config.rollout, questions_per_step=plan.processes)
    with tempfile.TemporaryDirectory() as folder:
        shortened = dataclasses.replace(
            config,
            out=Path(folder),
            loop=loop,
            rollout=rollout,
            grpo=dataclasses.replace(config.grpo, updates_per_step=1),
        )
        model, tokenizer = weights.load(plan.start, shortened)
        trainer = grpo.build_trainer(model, tokenizer, shortened, _task(plan))
        trainer.train()
    log: dict[str, Any] = next(entry for entry in trainer.state.log_history if "seconds/step" in entry)
    factor = config.rollout.questions_per_step / plan.processes
    logger.info(
        "a step of %d questions took %.1f s (policy %.1f, agents %.1f, update %.1f) and %.1f GiB of %s; a step of the "
        "run has %d questions, so that its %d steps take about %.1f h without evaluations",
        rollout.questions_per_step,
        *(log[f"seconds/{phase}"] for phase in ("step", "policy", "agents", "update")),
        peak_memory(),
        "GPU memory" if trainer.args.device.type == "cuda" else "memory",
        config.rollout.questions_per_step,
        config.loop.steps,
        log["seconds/step"] * factor * config.loop.steps / 3600,
    )


if __name__ == "__main__":
    with checked_output_streams():
        sys.exit(main())
