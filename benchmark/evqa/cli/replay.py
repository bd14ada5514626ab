"""Command on recorded agents: replay."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from evqa.agents.settings import AgentSettings, EpisodeSettings
from evqa.cli.arguments import ExecutionSettings, ModelSettings, RunData, RunPath
from evqa.cli.console import plural, print_line, print_summary
from evqa.models.options import ModelOptions, option
from evqa.runs.options import ExecutionOptions

MAX_DIFFERENCES = 10


def replay(  # noqa: PLR0913  (each is an option of the command)
    run: RunPath,
    *,
    model: Annotated[str | None, option("MODEL", default="none: compare with the record", name="with")] = None,
    turns: Annotated[int | None, option("K", default="all")] = None,
    evidence_frames: Annotated[int, option("N")] = 64,
    index: Annotated[Path | None, option("FOLDER", default="outputs/frame_index")] = None,
    embeddings: Annotated[Path | None, option("FOLDER", default="none")] = None,
    grounding_cache: Annotated[Path | None, option("FILE", default="none")] = None,
    looking_cache: Annotated[Path | None, option("FILE", default="none")] = None,
    clip_texts: Annotated[Path | None, option("FILE", default="none")] = None,
    boxes: Annotated[Path | None, option("FILE", default="none")] = None,
    data: RunData = None,
    out: Annotated[Path | None, option("FOLDER", default="RUN-with-MODEL")] = None,
    execution: ExecutionSettings = ExecutionOptions(),  # noqa: B008  (frozen)
    options: ModelSettings = ModelOptions(),  # noqa: B008
) -> int:
    """Run the tools of a recorded agent again, without a model.

    Without --with, the responses are those of the record, and the result must equal the record byte
    for byte, but for the wall time. With --with MODEL, the model answers from the frames that the tools returned, in a
    run of its own; --turns K takes the evidence of the first K turns only.

    Example: evqa replay outputs/lvbench/gpt-4o-agent

      evqa replay outputs/lvbench/gpt-4o-agent --with qwen3-vl-8b --turns 3

    Args:
        run: folder of a run of the method agent, retrieve, inspected, uniform, judge, episode or episode-frames.
        model: model that answers from the recorded evidence.
        turns: with --with: evidence of the first K turns of the agent.
        evidence_frames: with --with: most frames that the model gets.
        index: folder of frame indices.
        embeddings: folder of published embeddings VIDEO.pt.
        grounding_cache: the file that a run of the method episode read; so of the next three.
        looking_cache: the file of looks of a run without a vision agent.
        clip_texts: the file of texts that answered the looks.
        boxes: the file of boxes.
        data: data set of the run.
        out: with --with: folder of the new run.
        execution: with --with: samples and workers.
        options: with --with: settings of the model.
    """
    from evqa.runs import locate, pipeline, replay

    files = EpisodeSettings(
        grounding_cache=grounding_cache, looking_cache=looking_cache, boxes=boxes, clip_texts=clip_texts
    )
    folders = AgentSettings(index=index, embeddings=embeddings, episode=files)
    if model is not None:
        config = pipeline.EvidenceConfig(model, options.overrides(), turns, evidence_frames)
        return print_summary(pipeline.answer_from_evidence(run, config, execution, out, data), "")
    if turns is not None:
        raise ValueError("--turns selects evidence for another model: give one with --with MODEL")
    num_equal, differences = 0, list[replay.RecordDifference]()
    for _, difference in replay.replay_run(run, locate.dataset_of(run, data), folders):
        if difference is None:
            num_equal += 1
        else:
            differences.append(difference)
            if len(differences) <= MAX_DIFFERENCES:
                print_line(f"  {difference}")
    print_line(f"{plural(num_equal, 'record')} reproduced, {len(differences)} different")
    return 1 if differences else 0
