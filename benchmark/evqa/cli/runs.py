"""Commands that write a run: predict, segment, merge, benchmark.

A command imports what it needs when it is called, so that `evqa --help` imports little; so in all of these modules.
"""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

from evqa.agents.settings import AgentSettings
from evqa.cli.arguments import (
    AgentOptions,
    Agents,
    CanaryChoice,
    DataName,
    ExecutionSettings,
    MethodName,
    ModeChoice,
    ModelName,
    ModelSettings,
    RunData,
    RunPath,
    Times,
)
from evqa.cli.console import print_failures, print_line, print_summary
from evqa.cli.scores import score
from evqa.models.options import ModelOptions, option, parse_agents
from evqa.runs.options import ExecutionOptions

RunFolder = Annotated[Path | None, option("FOLDER", default="outputs/DATA/MODEL-METHOD")]
SegmenterName = Annotated[str, option("MODEL")]


def predict(  # noqa: PLR0913  (each is an option of the command)
    data: DataName,
    model: ModelName,
    *,
    method: MethodName = None,
    out: RunFolder = None,
    times: Times = True,
    seed: int = 0,
    agent: Agents = (),
    canary: CanaryChoice = "auto",
    plan: Annotated[bool, option(default="off")] = False,
    agent_settings: AgentOptions = AgentSettings(),  # noqa: B008  (frozen)
    execution: ExecutionSettings = ExecutionOptions(),  # noqa: B008  (frozen)
    options: ModelSettings = ModelOptions(),  # noqa: B008
) -> int:
    """Run a model on a data set and save its predictions.

    The same command resumes an interrupted run and retries failed samples.

    Example: evqa predict shapes-test tiny --limit 20

    Args:
        data: name of a data set (evqa list datasets), or its folder.
        model: name of a model (evqa list models), a Hugging Face id, a checkpoint folder, or a .json file of responses.
        method: prompting method (evqa list methods).
        out: folder of the run; --model-id is appended to MODEL.
        times: withhold the duration of the video and the timestamps of its frames from the model, as published.
        seed: random seed of sampling (with --temperature), stored in run.json.
        agent: additional model of a method with several models: NAME=MODEL or NAME=MODEL,setting=value.
        canary: request at the start with an image in a tool result, for methods with tools: stops the run if the model
            does not see it; auto = models behind an API, on = local models too.
        plan: with the method stages, print frames, tokens and price of the run, and do nothing.
        agent_settings: limits, frames and search of the methods agent, retrieve, inspected and uniform.
        execution: samples and workers.
        options: settings of the model that replace those of its table entry (evqa list models).
    """
    from evqa.runs import pipeline

    config = pipeline.PredictConfig(
        data=data,
        model=model,
        method=method,
        times=times,
        seed=seed,
        overrides=options.overrides(),
        agents=parse_agents(agent),
        canary=canary,
        agent_settings=agent_settings,
    )
    if plan:
        print_line(pipeline.estimate_stages(config, execution))
        return 0
    summary = pipeline.predict(config, execution, out)
    return print_summary(summary, _next_command(summary.folder, execution))


def segment(  # noqa: PLR0913
    run: RunPath,
    *,
    segmenter: SegmenterName = "unipixel-3b",
    mode: ModeChoice = "both",
    frame_stride: Annotated[int | None, option("N", default="--fps")] = None,
    num_frames: Annotated[int | None, option("N", default="--fps")] = None,
    data: RunData = None,
    out: Annotated[Path | None, option("FOLDER", default="RUN")] = None,
    execution: ExecutionSettings = ExecutionOptions(),  # noqa: B008  (frozen)
    options: ModelSettings = ModelOptions(),  # noqa: B008
) -> int:
    """Predict masks for the referring expressions of a run.

    Writes a run with masks beside it. The same command resumes, also when the first run has grown since.

    Example: evqa segment outputs/st-evidence-gen/gpt-4o-single-turn --segmenter unipixel-3b --mode concat

    Args:
        run: folder of a run with referring expressions, or a prediction file of the original scripts.
        segmenter: model that predicts masks.
        mode: one prompt per expression (separate), one per sample (concat, as published), or both.
        frame_stride: use every N-th frame as input; masks are predicted for every frame.
        num_frames: use N evenly spaced frames as input.
        data: data set of the run.
        out: prefix of the new folders; the mode is appended.
        execution: samples and workers.
        options: settings of the segmenter that replace those of its table entry (evqa list models).
    """
    from evqa.runs import pipeline

    sampling = {"fps": options.frames.fps, "every": frame_stride, "num_frames": num_frames}
    selected = {name: value for name, value in sampling.items() if value is not None}
    if len(selected) > 1:
        raise ValueError(f"give one of --fps, --frame-stride and --num-frames, got {len(selected)}")
    overrides = options.overrides() | ({**dict.fromkeys(sampling), **selected} if selected else {})
    config = pipeline.SegmentConfig(model=segmenter, overrides=overrides, mode=mode)
    summaries = pipeline.segment_expressions(run, config, execution, out, data)
    return max(
        print_summary(summary, _next_command(summary.folder, execution), counts_masks=True) for summary in summaries
    )


def _next_command(folder: Path, execution: ExecutionOptions) -> str:
    """Return the command that usually follows, quoted for a shell."""
    return f"evqa merge {quote(str(folder.parent))}" if execution.shard else f"evqa score {quote(str(folder))}"


def merge(run: RunPath) -> int:
    """Merge the shards of a run (evqa predict --shard I/N).

    Missing samples are reported; evqa predict without --shard predicts them. Exits with 1 where any is missing or
    failed.

    Example: evqa merge outputs/st-evidence-gen/st-evidence-3b-single-turn

    Args:
        run: folder that holds shard-0-of-N and so on.
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
    method: MethodName = None,
    out: RunFolder = None,
    segmenter: SegmenterName = "unipixel-3b",
    mode: ModeChoice = "concat",
    agent: Agents = (),
    canary: CanaryChoice = "auto",
    agent_settings: AgentOptions = AgentSettings(),  # noqa: B008  (frozen)
    execution: ExecutionSettings = ExecutionOptions(),  # noqa: B008  (frozen)
    options: ModelSettings = ModelOptions(),  # noqa: B008
) -> int:
    """Run all steps: predict, segment where needed, score.

    Example: evqa benchmark st-evidence-gen gpt-4o --segmenter unipixel-3b

    Args:
        data: name of a data set (evqa list datasets), or its folder.
        model: name of a model (evqa list models), a Hugging Face id, a checkpoint folder, or a .json file of responses.
        method: prompting method (evqa list methods).
        out: folder of the run; its masks go to the folder beside it with the mode appended.
        segmenter: model that predicts masks for referring expressions.
        mode: one prompt per expression (separate), one per sample (concat, as published), or both.
        agent: additional model of a method with several models: NAME=MODEL or NAME=MODEL,setting=value.
        canary: request at the start with an image in a tool result, for methods with tools: stops the run if the model
            does not see it; auto = models behind an API, on = local models too.
        agent_settings: limits, frames and search of the methods agent, retrieve, inspected and uniform.
        execution: samples and workers; with a model behind an API, --workers is for the segmenter.
        options: settings of the model that replace those of its table entry (evqa list models).
    """
    from evqa.runs import pipeline

    if execution.shard:
        raise ValueError(
            "evqa benchmark takes no --shard: run evqa predict ... --shard I/N on each machine, then evqa merge"
        )
    overrides, agents = options.overrides(), parse_agents(agent)
    config = pipeline.PredictConfig(
        data=data,
        model=model,
        method=method,
        overrides=overrides,
        agents=agents,
        canary=canary,
        agent_settings=agent_settings,
    )
    segment_config = pipeline.SegmentConfig(model=segmenter, mode=mode)
    first, *segmented = pipeline.predict_and_segment(config, segment_config, execution, out)
    code = max(print_summary(first, ""), *(print_summary(summary, "", counts_masks=True) for summary in segmented), 0)
    for summary in segmented or [first]:
        score(summary.folder)
    return code
