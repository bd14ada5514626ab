"""Commands that make a run: predict, segment, merge, and all steps of a benchmark.

A command imports what it needs when it is called, so that `evqa --help` imports little; so in all of these modules.
"""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

from tyro.conf import arg

from evqa.cli.arguments import (
    Agents,
    DataName,
    ExecutionSettings,
    Folder,
    ModeChoice,
    ModelName,
    ModelSettings,
    Name,
    Number,
    RunPath,
    Times,
)
from evqa.cli.console import print_failures, print_line, print_summary
from evqa.cli.scores import score
from evqa.models.options import ModelOptions, parse_agents
from evqa.runs.options import ExecutionOptions


def predict(  # noqa: PLR0913  (each is an option of the command)
    data: DataName,
    model: ModelName,
    *,
    method: Name = None,
    out: Folder = None,
    times: Times = True,
    seed: int = 0,
    agent: Agents = (),
    hands: ExecutionSettings = ExecutionOptions(),  # noqa: B008  (frozen)
    options: ModelSettings = ModelOptions(),  # noqa: B008
) -> int:
    """Put a model on a data set: one prediction a sample, into a folder that describes itself.

    The same command again goes on where the last one stopped and tries failed samples again.

    Example: evqa predict shapes-test tiny --limit 20

    Args:
        data: name of a data set (evqa list datasets), or its folder.
        model: name of a model (evqa list models), a Hugging Face id, a folder with a checkpoint, or a .json file of
            replies.
        method: how the model is asked (evqa list methods); what data and model are made for, where none is named.
        out: folder of the run; outputs/DATA/MODEL-METHOD where none is given, with the --model-id behind MODEL.
        times: do not tell the model the duration of the video and the seconds of its frames, as published.
        seed: part of what makes two runs the same; with --temperature our models start from it.
        agent: further model for methods that ask several: NAME=MODEL or NAME=MODEL,setting=value; repeat it for each.
        hands: which samples, and who predicts them.
        options: settings of the model in place of those of its row.
    """
    from evqa.runs.pipeline import PredictConfig
    from evqa.runs.pipeline import predict as ask_for_each

    asking = PredictConfig(
        data=data,
        model=model,
        method=method,
        times=times,
        seed=seed,
        overrides=options.overrides(),
        agents=parse_agents(agent),
    )
    summary = ask_for_each(asking, hands, out)
    return print_summary(summary, _next(summary.folder, hands))


def segment(  # noqa: PLR0913
    run: RunPath,
    *,
    model: Annotated[str, arg(name="with", metavar="MODEL")] = "unipixel-3b",
    mode: ModeChoice = "both",
    every: Number = None,
    num_frames: Number = None,
    data: Name = None,
    out: Folder = None,
    hands: ExecutionSettings = ExecutionOptions(),  # noqa: B008  (frozen)
    options: ModelSettings = ModelOptions(),  # noqa: B008
) -> int:
    """Turn the referring expressions of a run's predictions into masks: a run with masks beside it.

    The same command again goes on where the last one stopped, also when the first run has grown since.

    Example: evqa segment outputs/st-evidence-gen/gpt-4o-single-turn --with unipixel-3b --mode concat

    Args:
        run: folder of a run whose predictions have referring expressions, or a file as the original writes it.
        model: a model that draws masks.
        mode: one prompt an expression, one for all of a sample's, or both; the published numbers are of concat.
        every: the model sees every N-th frame, instead of --fps; masks are on every frame.
        num_frames: it sees so many frames, evenly spread, instead.
        data: data set that was predicted; the one that the run names, where none is given.
        out: the folders are called this and the mode; where none is given, RUN and the mode.
        hands: which samples, and who predicts them.
        options: settings of the model in place of those of its row.
    """
    from evqa.runs import pipeline

    policy = {"fps": options.fps, "every": every, "num_frames": num_frames}
    given = {name: value for name, value in policy.items() if value is not None}
    if len(given) > 1:
        raise ValueError(f"give one of --fps, --every and --num-frames, got {len(given)}")
    overrides = options.overrides() | ({**dict.fromkeys(policy), **given} if given else {})
    drawing = pipeline.SegmentConfig(model=model, overrides=overrides, mode=mode)
    summaries = pipeline.segment_expressions(run, drawing, hands, out, data)
    return max(print_summary(one, _next(one.folder, hands)) for one in summaries)


def _next(folder: Path, hands: ExecutionOptions) -> str:
    """The command that follows, as a shell takes it."""
    return f"evqa merge {quote(str(folder.parent))}" if hands.shard else f"evqa score {quote(str(folder))}"


def merge(run: RunPath) -> int:
    """Join the shards of a run (evqa predict ... --shard I/N) into one file of predictions.

    What is missing is told; evqa predict without --shard fills it. Exits with 1 where anything is missing or failed.

    Example: evqa merge outputs/st-evidence-gen/st-evidence-3b-single-turn

    Args:
        run: the folder that holds shard-0-of-N and so on.
    """
    from evqa.runs import pipeline

    merged = pipeline.merge_shards(run)
    print_line(
        f"{run}: {merged.num_shards} shards, {merged.num_ok} predicted, {len(merged.failed)} failed, "
        f"{len(merged.missing)} missing"
    )
    print_failures(merged.failed)
    return 1 if merged.failed or merged.missing else 0


def benchmark(  # noqa: PLR0913
    data: DataName,
    model: ModelName,
    *,
    method: Name = None,
    out: Folder = None,
    segmenter: Annotated[str, arg(name="with", metavar="MODEL")] = "unipixel-3b",
    mode: ModeChoice = "concat",
    agent: Agents = (),
    hands: ExecutionSettings = ExecutionOptions(),  # noqa: B008  (frozen)
    options: ModelSettings = ModelOptions(),  # noqa: B008
) -> int:
    """All steps of a benchmark: predict, masks for expressions where the model draws none, score.

    Example: evqa benchmark st-evidence-gen gpt-4o --with unipixel-3b

    Args:
        data: name of a data set (evqa list datasets), or its folder.
        model: name of a model (evqa list models), a Hugging Face id, a folder with a checkpoint, or a .json file of
            replies.
        method: see evqa predict.
        out: folder of the run, as with evqa predict; its masks go to the folder beside it that ends in the mode.
        segmenter: the model that draws masks for expressions.
        mode: see evqa segment.
        agent: see evqa predict.
        hands: which samples, and who predicts them; where a server does, --workers draw.
        options: settings of the model in place of those of its row.
    """
    from evqa.runs import pipeline

    if hands.shard:
        raise ValueError("a shard is no benchmark: evqa predict ... --shard I/N on each machine, then evqa merge")
    overrides, agents = options.overrides(), parse_agents(agent)
    asking = pipeline.PredictConfig(data=data, model=model, method=method, overrides=overrides, agents=agents)
    summaries = pipeline.predict_and_segment(asking, pipeline.SegmentConfig(model=segmenter, mode=mode), hands, out)
    code = max(print_summary(summary, "") for summary in summaries)
    for summary in summaries[1:] or summaries:
        score(summary.folder)
    return code
