"""Command that locates the clips of questions beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from evqa.cli.arguments import DataName, ExecutionSettings, ModelSettings
from evqa.cli.console import print_line, print_summary
from evqa.models.options import ModelOptions, option
from evqa.runs.options import ExecutionOptions


def ground(
    data: DataName,
    *,
    model: Annotated[str, option("MODEL", name="with")] = "bm25",
    export: Annotated[Path | None, option("FILE", default="none")] = None,
    out: Annotated[Path | None, option("FOLDER", default="outputs/DATA/MODEL-ground")] = None,
    execution: ExecutionSettings = ExecutionOptions(),  # noqa: B008  (frozen)
    options: ModelSettings = ModelOptions(),  # noqa: B008
) -> int:
    """Locate the clips of questions about episodes beforehand.

    The result is the grounding cache of the method episode, a run with one record per question: the same command
    resumes and retries what failed. Questions are known by their id, and a clip counts only if it belongs to their
    episode. No ground truth is read or written.

    Example: evqa ground longtvqa-plus --with gpt-5-mini --concurrency 16

      evqa predict longtvqa-plus gpt-4o --grounding-cache outputs/longtvqa-plus/gpt-5-mini-ground

    Args:
        data: name of a data set with episodes (evqa list datasets), or its folder.
        model: grounding agent: bm25 (by the words of the subtitles, no network), or a model (evqa list models).
        export: .json file for the cache in the published form, which --grounding-cache reads too.
        out: folder of the run.
        execution: samples and workers.
        options: settings of the model.
    """
    import json

    from evqa.agents import grounding_cache
    from evqa.runs import locate, pipeline, run_folder

    config = pipeline.PredictConfig(data=data, model=model, method="ground", overrides=options.overrides())
    summary = pipeline.predict(config, execution, out)
    code = print_summary(summary, f"evqa predict {data} MODEL --method episode --grounding-cache {summary.folder}")
    if export is not None:
        records = {record.sample_id: record for record in run_folder.last_predictions(locate.file_of(summary.folder))}
        entries = grounding_cache.published_form(locate.load_dataset(data).samples, records)
        export.write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print_line(f"{len(entries)} entries written to {export}")
    return code
