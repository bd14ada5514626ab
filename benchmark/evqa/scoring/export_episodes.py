"""Export of questions about episodes: the result files of LongVideoAgent, and files for the servers of TVQA and TVQA+.

    NAME.json               summary and `results` of its evaluators, with `qid` and `history_vids` in addition
    NAME.detailed.json      the conversation of the master for each question
    NAME.qid2preds.json     question -> index of the option: TVQA
    NAME.ts_answer.json     question -> [[start, end], index of the option], in seconds of clips: TVQA+

The last one is written where samples are about clips. A question without an answer has the option -1, and one without
a time segment [0, 0], since the servers expect an entry for every question.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from evqa.datasets import Dataset
from evqa.files.jsonl import write_json
from evqa.metrics.clips import LOOK, RELOCATE
from evqa.parsing.action_tags import last_answer
from evqa.parsing.option_keys import is_exact_key
from evqa.runs.prediction_files import PredictionFile
from evqa.schema import MAIN_AGENT, Prediction, Sample, Turn

NO_ANSWER = -1


class EpisodeFiles(NamedTuple):
    """Files of an export."""

    results: Path
    num_rows: int
    answers: Path
    spans: Path | None
    """None = the samples are about whole episodes."""


def export_episodes(
    file: PredictionFile, dataset: Dataset, out: Path, name: str, facts: Mapping[str, object]
) -> EpisodeFiles:
    """Write the predictions of a data set of episodes into a new folder.

    Args:
        file: predictions.
        dataset: their data set.
        out: new folder.
        name: start of the names of the files.
        facts: `dataset`, `model_path` and `max_turn` of the summary.

    Raises:
        ValueError: The folder exists, or a sample has no clips.
    """
    if out.exists():
        raise ValueError(f"{out} is there already: remove it, or choose another folder with --out")
    if sample_id := next((sample.id for sample in dataset.samples if not sample.clips), None):
        raise ValueError(f"sample {sample_id} has no clips: this format is for data sets of episodes, such as longtvqa")
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    cases = [(sample, file.get(sample)) for sample in dataset.samples]
    write_json(partial / f"{name}.json", _summary(cases, facts))
    write_json(partial / f"{name}.detailed.json", [_conversation(*case) for case in cases if case[1] is not None])
    write_json(partial / f"{name}.qid2preds.json", {sample.id: _answer(prediction) for sample, prediction in cases})
    has_spans = all(sample.clip is not None for sample in dataset.samples)
    if has_spans:
        spans = {sample.id: [_span(prediction), _answer(prediction)] for sample, prediction in cases}
        write_json(partial / f"{name}.ts_answer.json", {"ts_answer": spans})
    partial.rename(out)
    return EpisodeFiles(
        out / f"{name}.json",
        len(cases),
        out / f"{name}.qid2preds.json",
        out / f"{name}.ts_answer.json" if has_spans else None,
    )


def _summary(cases: Sequence[tuple[Sample, Prediction | None]], facts: Mapping[str, object]) -> dict[str, object]:
    results = [_result(*case) for case in cases]
    turns = [_master_turns(prediction) for _, prediction in cases]
    golds = [sample.answer for sample, _ in cases]
    answered = sum(bool(result["final_answer"]) for result in results)
    right = sum(
        gold is not None and is_exact_key(f"<answer>{result['final_answer']}</answer>", gold)
        for gold, result in zip(golds, results, strict=True)
    )
    return {
        **facts,
        "total": len(cases),
        "metadata": {
            "avg_turns": sum(map(len, turns)) / max(len(cases), 1),
            "vision_calls_total": _num_calls(turns, LOOK),
            "grounding_calls_total": _num_calls(turns, RELOCATE),
            "completed_questions": answered,
            "completion_rate": answered / max(len(cases), 1),
            "accuracy": right / max(len(cases), 1) if all(gold is not None for gold in golds) else None,
        },
        "results": results,
    }


def _result(sample: Sample, prediction: Prediction | None) -> dict[str, object]:
    """Row of `results`; `vid` is the clip that the row of the question names, as in the original."""
    clips = [] if prediction is None else list(prediction.clips or ())
    return {
        "qid": sample.id,
        "vid": (sample.evidence_clips or (sample.video_id,))[0],
        "question": sample.question,
        "num_turns": len(_master_turns(prediction)),
        "final_answer": _final_answer(prediction),
        "predicted_clip": clips[-1] if clips else "",
        "history_vids": clips,
    }


def _final_answer(prediction: Prediction | None) -> str:
    """The whole <answer> of the last turn; "" = there is none, or the prediction failed."""
    turns = _master_turns(prediction)
    is_ok = prediction is not None and prediction.status == "ok"
    return (last_answer(turns[-1].reply) or "") if turns and is_ok else ""


def _conversation(sample: Sample, prediction: Prediction | None) -> dict[str, object]:
    turns = _master_turns(prediction)
    history = [
        {"role": role, "content": content}
        for turn in turns
        for role, content in (("user", turn.prompt), ("assistant", _reply(turn)))
    ]
    return {
        "qid": sample.id,
        "vid": (sample.evidence_clips or (sample.video_id,))[0],
        "conversation_history": history,
        "last_llm_response": turns[-1].reply if turns else "",
    }


def _reply(turn: Turn) -> str:
    """Text of a reply, with its tool calls as JSON below it."""
    calls = [json.dumps({"name": call.name, "arguments": call.arguments}) for call in turn.calls]
    return "\n".join(filter(None, [turn.reply, *calls]))


def _answer(prediction: Prediction | None) -> int:
    return NO_ANSWER if prediction is None or prediction.answer is None else prediction.answer


def _span(prediction: Prediction | None) -> list[float]:
    """First predicted time segment."""
    spans = prediction.spans if prediction is not None else None
    return list(spans[0]) if spans else [0.0, 0.0]


def _master_turns(prediction: Prediction | None) -> list[Turn]:
    return [] if prediction is None else [turn for turn in prediction.turns if turn.agent == MAIN_AGENT]


def _num_calls(turns: Sequence[Sequence[Turn]], tool: str) -> int:
    return sum(call.name == tool for episode in turns for turn in episode for call in turn.calls)
