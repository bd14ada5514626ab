"""Prediction files of other benchmarks, scored as their official evaluators do: the numbers to the digit.

Each row reads the benchmark's own files and gives its own metrics, with counts, intervals over videos, trivial
baselines, and a strict convention beside the official one where they differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from evqa import suggestions
from evqa.official import (
    choices,
    davis,
    grounded,
    moment_retrieval,
    omtg,
    preference,
    spatio_temporal,
    st_evidence,
    tvqa,
)
from evqa.official.scores import FileScores, OfficialFiles


@dataclass(frozen=True, kw_only=True)
class OfficialFormat:
    """One kind of prediction file."""

    score: Callable[[OfficialFiles], FileScores]
    source: str
    """The evaluator whose numbers it gives."""
    gold: bool = True
    """Whether a file of gold is read, or the predictions hold it;"""
    extra: bool = False
    """whether a third file is."""


FORMATS: dict[str, OfficialFormat] = {
    "st-evidence": OfficialFormat(score=st_evidence.st_evidence, source="ST-Evidence, eval_st_evidence.py"),
    "st-evidence-mcq": OfficialFormat(
        score=choices.st_evidence_mcq, source="ST-Evidence, eval_st_evidence_mcq.py", gold=False
    ),
    "nextqa": OfficialFormat(score=choices.nextqa, source="NExT-QA, eval_mc.py"),
    "nextgqa": OfficialFormat(score=grounded.nextgqa, source="NExT-GQA, eval_ground.py", extra=True),
    "rextime": OfficialFormat(score=grounded.rextime, source="ReXTime, rextime_eval.py"),
    "cg-bench": OfficialFormat(score=grounded.cg_bench, source="CG-Bench, stat_with_key"),
    "tvqa-plus": OfficialFormat(score=tvqa.tvqa_plus, source="TVQA+, compute_temporal_metrics", extra=True),
    "v-star": OfficialFormat(score=spatio_temporal.v_star, source="V-STaR, eval.py", gold=False),
    "video-zero-bench": OfficialFormat(
        score=spatio_temporal.video_zero_bench, source="VideoZeroBench, videozerobench.py", gold=False
    ),
    "omtg": OfficialFormat(score=omtg.omtg, source="One-to-Many Temporal Grounding, VLMEvalKit", gold=False),
    "qvhighlights": OfficialFormat(
        score=moment_retrieval.qvhighlights, source="QVHighlights, moment_detr standalone_eval"
    ),
    "ego4d-nlq": OfficialFormat(score=moment_retrieval.ego4d_nlq, source="Ego4D, evaluate_ego4d_nlq.py"),
    "charades-sta": OfficialFormat(score=moment_retrieval.charades_sta, source="Charades-STA", extra=True),
    "activitynet-qa": OfficialFormat(score=choices.activitynet_qa, source="ActivityNet-QA, eval.py"),
    "genai-bench": OfficialFormat(score=preference.genai_bench, source="GenAI-Bench, video generation"),
    "preference": OfficialFormat(
        score=preference.preference_margins, source="VideoAlign, calc_accuracy.py", gold=False
    ),
    "davis-2016": OfficialFormat(score=davis.davis_2016, source="davis2017-evaluation, one foreground"),
    "davis-2017": OfficialFormat(score=davis.davis_2017, source="davis2017-evaluation, objects by label"),
}
"""Name in `evqa score-file` -> how it is read and scored."""


def score_file(name: str, files: OfficialFiles) -> FileScores:
    """Scores of a prediction file of the named format."""
    if name not in FORMATS:
        raise suggestions.unknown_name_message("format", name, FORMATS)
    row = FORMATS[name]
    if files.gold is not None and not row.gold:
        raise ValueError(f"{name} files hold their gold: leave {files.gold} out, which is not read")
    if files.extra is not None and not row.extra:
        raise ValueError(f"{name} has no third file: leave --extra {files.extra} out, which is not read")
    scores = row.score(files)
    if not scores.samples:
        reason = scores.notes[0] if scores.notes else "it holds no record"
        raise ValueError(f"{files.gold or files.predictions} has no question of {name} to score: {reason}")
    return scores
