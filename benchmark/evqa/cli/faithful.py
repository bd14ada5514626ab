"""Command that tests whether answers depend on the evidence that is cited for them: faithful."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from evqa.agents.settings import AgentSettings
from evqa.cli.arguments import CanaryChoice, ExecutionSettings, ModelSettings, RunData, RunPath
from evqa.cli.console import plural, print_line, print_summary
from evqa.models.options import ModelOptions, option
from evqa.runs.options import ExecutionOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evqa.faithfulness.condition_runs import ConditionPlan

ConditionName = Literal["only", "removed", "random", "no-video", "shuffled"]


def faithful(  # noqa: PLR0913  (each is an option of the command)
    run: RunPath,
    *,
    conditions: Annotated[tuple[ConditionName, ...], option("CONDITION...", default="all")] = (),
    draws: Annotated[int, option("K")] = 3,
    seed: Annotated[int, option("N")] = 0,
    evidence: Literal["cited", "gold"] = "cited",
    parts: Literal["both", "spans", "masks"] = "both",
    fill: Literal["grey", "blur"] = "grey",
    plan: Annotated[bool, option(default="off")] = False,
    examples: Annotated[int, option("N")] = 12,
    index: Annotated[Path | None, option("FOLDER", default="outputs/frame_index")] = None,
    embeddings: Annotated[Path | None, option("FOLDER", default="none")] = None,
    canary: CanaryChoice = "auto",
    format: Literal["text", "markdown", "latex", "csv"] = "text",
    data: RunData = None,
    out: Annotated[Path | None, option("FOLDER", default="RUN-faithful")] = None,
    execution: ExecutionSettings = ExecutionOptions(),  # noqa: B008  (frozen)
    options: ModelSettings = ModelOptions(),  # noqa: B008
) -> int:
    """Test whether answers depend on the evidence cited.

    The questions are asked again, with the model and method of the run, about edited videos:

      only: the cited evidence alone (frames outside the spans cut, pixels outside the masks hidden)

      removed: the video without it. random: without random evidence of equal size, several draws

      no-video: the question alone. shuffled: the options in another order

    Prints accuracies, answer flips, necessity, sufficiency and the contrast with random removal, with paired 95 %
    intervals over videos; writes faithfulness.json, .csv and .html. Each condition is a run in a subfolder: the same
    command resumes. The number of questions and their price by the records of the run are printed first; --plan
    prints them and asks nothing.

    Example: evqa faithful outputs/shapes-test/tiny-single-turn

      evqa faithful outputs/nextgqa/gpt-4o-single-turn --plan

      evqa faithful outputs/nextgqa/gpt-4o-single-turn --limit 100 --max-cost 5

    Args:
        run: folder of a run; of a run with segmented expressions, the answers are those of its first step.
        conditions: conditions to run.
        draws: number of random draws.
        seed: seed of the random evidence and of the order of options.
        evidence: evidence of the predictions, or of the ground truth.
        parts: parts of the evidence: spans and masks, or one of them.
        fill: what hidden pixels show: one grey, or the blurred frame.
        plan: write the edited data sets, print the number of questions, requests and tokens, and ask nothing.
        examples: most questions on the page with original and edited videos side by side; 0 = none.
        index: folder of frame indices, for methods that search frames.
        embeddings: folder of published embeddings VIDEO.pt.
        canary: check of images in tool results at the start of each run, as of evqa predict.
        format: format of the table.
        data: data set of the run.
        out: folder of the conditions.
        execution: samples and workers.
        options: settings of the model that replace those of the run, such as its budget.
    """
    from evqa.faithfulness import condition_runs, measures
    from evqa.faithfulness.conditions import CONDITIONS, FaithfulnessSettings
    from evqa.report import faithfulness_files, faithfulness_tables

    settings = FaithfulnessSettings(
        conditions=conditions or CONDITIONS, draws=draws, seed=seed, evidence=evidence, parts=parts, fill=fill
    )
    folders = AgentSettings(index=index, embeddings=embeddings)
    source = condition_runs.open_run(run, options.overrides(), folders, out, data)
    edited = condition_runs.write_conditions(source, settings)
    part = source.select(execution)
    selected = edited.select(part.ids)
    for line in plan_lines(condition_runs.plan(part, selected)):
        print_line(line)
    if plan:
        return 0
    code = 0
    for summary in condition_runs.run_conditions(source, edited, execution, canary):
        code = max(code, print_summary(summary, ""))
    result = measures.evaluate_conditions(part, selected, settings)
    paths = faithfulness_files.write_files(source.folder, result, part, selected, num_examples=examples)
    if format == "csv":
        print_line(faithfulness_tables.csv_report(result).rstrip("\n"))
        return code
    print_line(f"\n{faithfulness_tables.report(result, format)}")
    for path in paths:
        print_line(f"written to {path}")
    return code


def plan_lines(rows: Sequence[ConditionPlan]) -> list[str]:
    """Lines with the questions of each condition, and what they cost by the records of the run."""
    lines: list[str] = []
    for row in rows:
        counts = row.counts
        rest = {
            "without cited evidence: the answer of the run counts": counts.as_full,
            "without cited evidence: the answer without a video counts": counts.as_blind,
            "without options": counts.not_applicable,
            "with nothing left of the video": counts.nothing_left,
        }
        notes = "".join(f"; {number} {label}" for label, number in rest.items() if number)
        progress = f", {row.num_done} already done" if row.num_done else ""
        lines.append(f"{row.name}: {plural(counts.num_asked, 'question')}{progress}{notes}")
    requests, tokens = sum(row.num_requests for row in rows), sum(row.num_tokens for row in rows)
    cost = sum(row.cost for row in rows)
    price = f", ${cost:.2f}" if cost else ""
    lines.append(
        f"to ask, by the records of the run: {plural(requests, 'request')}, {plural(tokens, 'token')}{price} "
        f"(images of shorter videos take less)"
    )
    return lines
