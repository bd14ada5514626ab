"""Commands on files: foreign ones scored, ours parsed again, written in the original's form, described."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from evqa.cli.arguments import Folder, Name, RunPath
from evqa.cli.console import print_line
from evqa.runs import locate

RecordName = Literal["sample", "prediction", "run", "scores"]


def score_file(
    format_name: Positional[Annotated[str, arg(name="format", metavar="FORMAT")]],
    predictions: Positional[Annotated[Path, arg(metavar="PREDICTIONS")]],
    gold: Positional[Annotated[Path | None, arg(metavar="GOLD")]] = None,
    *,
    extra: Annotated[Path | None, arg(metavar="FILE")] = None,
    out: Annotated[Path | None, arg(metavar="FILE")] = None,
    scores: Annotated[Path | None, arg(metavar="FILE")] = None,
) -> int:
    """Score another benchmark's prediction file as its official evaluator does, with counts, intervals and baselines.

    Example: evqa score-file qvhighlights submission.jsonl highlight_val_release.jsonl

    Args:
        format_name: kind of file (evqa list formats).
        predictions: the file; for davis-2016 and davis-2017 a folder of label images.
        gold: the benchmark's file of gold, for formats whose prediction files do not hold it.
        extra: nextgqa: the answers, {id: {prediction, answer}}; charades-sta: durations, {video: seconds};
            tvqa-plus: the labels whose boxes count, word2idx.json.
        out: where to write the scores as JSON as well.
        scores: where to write them as NAME.scores.json as well, for evqa compare.
    """
    from evqa.official.scores import OfficialFiles
    from evqa.report import official_files

    files = OfficialFiles(predictions, gold, extra)
    print_line(official_files.score_and_write(format_name, files, out, scores))
    return 0


def reparse(run: RunPath, *, data: Name = None, explain: Annotated[str | None, arg(metavar="SAMPLE_ID")] = None) -> int:
    """Parse the stored replies of a run again, without the model; the old predictions are kept beside the new.

    Example: evqa reparse outputs/shapes-test/tiny-single-turn

    Args:
        run: folder of a run.
        data: data set that was predicted; the one that the run names, where none is given.
        explain: write nothing; print for this sample each field, the rule that reads it, and the text that it matches.
    """
    from evqa.runs.reparse import explained
    from evqa.runs.reparse import reparse as parse_again

    if explain is not None:
        print_line(explained(run, locate.dataset_of(run, data), explain))
        return 0
    done = parse_again(run, locate.dataset_of(run, data))
    print_line(done.summary())
    if done.kept:
        print_line(f"next: evqa score {quote(str(run))}")
    return 1 if done.broken else 0


def export(run: RunPath, *, data: Name = None, out: Folder = None, format: Literal["original"] = "original") -> int:
    """Write a run in the form of the original's prediction files, which its evaluator scores unchanged.

    Example: evqa export outputs/st-evidence-gen/st-evidence-3b-single-turn

    Args:
        run: folder of a run, or a .jsonl file of predictions.
        data: data set that was predicted; the one that the run names, where none is given.
        out: new folder for NAME.json and the masks in NAME/ENTRY/masks; RUN/original where none is given.
        format: original = the JSON of the original's scripts, with its folders of mask images.
    """
    from evqa.scoring import evaluate

    dataset = locate.dataset_of(run, data)
    done = evaluate.export_run(run, dataset, out)
    for problem in done.unwritable[:5]:
        print_line(f"no masks for {problem}")
    print_line(f"{done.path}: {done.entries} entries, {done.with_masks} with masks; its evaluator looks for them with")
    print_line(f"  --pred_mask_dir {done.masks}")
    return 0


def schema(record: Annotated[RecordName, Positional]) -> int:
    """Print the JSON Schema of a file's records, for programs that read or write them.

    Example: evqa schema scores

    Args:
        record: sample (samples.jsonl), prediction (predictions.jsonl), run (run.json) or scores (scores.json).
    """
    import json

    from pydantic import TypeAdapter

    from evqa.schema import Prediction, Run, Sample
    from evqa.scoring.results import Scores

    kinds: dict[RecordName, TypeAdapter[Any]] = {
        "sample": TypeAdapter(Sample),
        "prediction": TypeAdapter(Prediction),
        "run": TypeAdapter(Run),
        "scores": TypeAdapter(list[Scores]),
    }
    print_line(json.dumps(kinds[record].json_schema(), indent=2))
    return 0
