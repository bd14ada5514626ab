"""Presets of other benchmarks: their metrics, thresholds and conventions, on our samples and predictions.

Where a benchmark takes one span and a prediction holds several, the first one counts; where it takes boxes, those
of the prediction are scored (`box`) where gold has boxes, and masks stand for them where gold has masks.
Prediction files in a benchmark's own form are scored by `evqa score-file`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from evqa.metrics import in_space, in_time, ranked
from evqa.metrics.answer import accuracy
from evqa.metrics.case import Case, GoldField, Metric, Preset
from evqa.metrics.grounded_qa import arithmetic_mean, log_geometric_mean, mean_reached
from evqa.metrics.joint import both
from evqa.metrics.means import Mean, State
from evqa.metrics.spatial import MaskScores
from evqa.metrics.temporal import first_to_best, hull_iop, hull_iou, tiou
from evqa.schema import Spans

Value = Callable[[Case], float | None]

AP_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""IoU thresholds of QVHighlights: 0.5, 0.55, ..., 0.95."""
MAX_WINDOWS = 10
"""So many windows of a query count in QVHighlights."""

NOTHING: frozenset[State] = frozenset()
ANSWER: tuple[GoldField, ...] = ("answer",)
SPANS: tuple[GoldField, ...] = ("spans",)
MASKS: tuple[GoldField, ...] = ("masks",)
BOXES: tuple[GoldField, ...] = ("boxes",)
ANSWER_SPANS: tuple[GoldField, ...] = ("answer", "spans")
ALL: tuple[GoldField, ...] = ("answer", "spans", "masks")


def at_least(value: Value, threshold: float) -> Value:
    """1 where a measure is at least the threshold, else 0."""
    return lambda case: None if (found := value(case)) is None else float(found >= threshold)


def above(value: Value, threshold: float) -> Value:
    """1 where a measure exceeds the threshold, else 0."""
    return lambda case: None if (found := value(case)) is None else float(found > threshold)


def _metric(
    source: str, needs: tuple[GoldField, ...], value: Value, definition: str, *, drops: frozenset[State] = NOTHING
) -> Metric:
    return Metric(needs=needs, value=value, definition=definition, source=source, excluded_states=drops)


first_iou = in_time(first_to_best(hull_iou))
"""IoU of the first predicted span with the gold span that suits it best, the hull being the union."""
first_iop = in_time(first_to_best(hull_iop))
"""IoP of the first predicted span with the gold span that suits it best; a point in time inside gold is 1."""
set_iou = in_time(tiou)
"""IoU of the merged sets of spans."""
tube = in_space(lambda masks, _: masks.tube(), "j")
"""vIoU of the masks through time."""
j_on_evidence_frames = in_space(MaskScores.mean_where_gold, "j")
"""J over the frames that hold evidence."""


def tube_of_boxes(case: Case) -> float | None:
    """Tube IoU (vIoU) of the boxes."""
    return case.tube_iou


def carried_forward_boxes(case: Case) -> float | None:
    """Box IoU over the frames that gold has a box in."""
    return case.box_iou


# Answer and time

_gqa = partial(_metric, "NExT-GQA (Xiao et al. 2024), eval_ground.py", drops=frozenset[State]({"missing"}))
NEXT_GQA = {
    "Acc@GQA": _gqa(ANSWER_SPANS, both(accuracy, at_least(first_iop, 0.5)), "right, and IoP at least 0.5"),
    "Acc@QA": _gqa(ANSWER, accuracy, "right"),
    "mIoP": _gqa(SPANS, first_iop, "IoP of the first span with its best gold span"),
    "IoP@0.3": _gqa(SPANS, at_least(first_iop, 0.3), "IoP at least 0.3"),
    "IoP@0.5": _gqa(SPANS, at_least(first_iop, 0.5), "IoP at least 0.5"),
    "mIoU": _gqa(SPANS, first_iou, "IoU of the first span with its best gold span"),
    "IoU@0.3": _gqa(SPANS, at_least(first_iou, 0.3), "IoU at least 0.3"),
    "IoU@0.5": _gqa(SPANS, at_least(first_iou, 0.5), "IoU at least 0.5"),
}

_rextime = partial(_metric, "ReXTime (Chen et al. 2024), rextime_eval.py")
REXTIME = {
    "VQA": _rextime(ANSWER, accuracy, "right"),
    "mIoU": _rextime(SPANS, first_iou, "IoU of the first span with its best gold span"),
    **{f"R1@{t}": _rextime(SPANS, at_least(first_iou, t), f"IoU at least {t}") for t in (0.3, 0.5, 0.7)},
    **{
        f"VQA,mIoU@{t}": _rextime(ANSWER_SPANS, both(accuracy, at_least(first_iou, t)), f"right, and IoU at least {t}")
        for t in (0.3, 0.5, 0.7)
    },
}

_cg = partial(_metric, "CG-Bench (Chen et al. 2024), stat_with_key")
CG_BENCH = {
    "long_acc": _cg(ANSWER, accuracy, "right, shown the whole video"),
    "mIoU": _cg(SPANS, set_iou, "IoU of the merged sets of spans"),
    "rec@IoU": _cg(SPANS, lambda case: mean_reached(set_iou(case)), "share of IoU thresholds 0.1 to 0.5 reached"),
    "acc@IoU": _cg(
        ANSWER_SPANS,
        both(accuracy, lambda case: mean_reached(set_iou(case))),
        "right times the share of IoU thresholds 0.1 to 0.5 reached",
    ),
}

_tvqa = partial(_metric, "TVQA+ (Lei et al. 2020), compute_temporal_metrics")
TVQA_PLUS = {
    "QA Acc": _tvqa(ANSWER, accuracy, "right"),
    "mIoU": _tvqa(SPANS, first_iou, "IoU of the first span with its best gold span"),
    "ASA": _tvqa(ANSWER_SPANS, both(accuracy, at_least(first_iou, 0.5)), "right, and IoU at least 0.5"),
}


# Time


def ap(*thresholds: float) -> Callable[[Case], float]:
    """Mean average precision of the spans in their order over IoU thresholds."""

    def value(predicted: Spans, gold: Spans) -> float:
        return ranked.mean_average_precision(ranked.in_given_order(predicted[:MAX_WINDOWS]), gold, thresholds)

    return in_time(value)


_qvh = partial(_metric, "QVHighlights (Lei et al. 2021), moment_detr standalone_eval")
QVHIGHLIGHTS = {
    "R1@0.5": _qvh(SPANS, at_least(first_iou, 0.5), "IoU of the first span at least 0.5"),
    "R1@0.7": _qvh(SPANS, at_least(first_iou, 0.7), "IoU of the first span at least 0.7"),
    "mAP": _qvh(SPANS, ap(*AP_THRESHOLDS), "average precision of the spans in their order, IoU 0.5 to 0.95"),
    "mAP@0.5": _qvh(SPANS, ap(0.5), "average precision at IoU 0.5"),
    "mAP@0.75": _qvh(SPANS, ap(0.75), "average precision at IoU 0.75"),
}

_nlq = partial(_metric, "Ego4D NLQ (Grauman et al. 2022), evaluate_ego4d_nlq.py")
EGO4D_NLQ = {
    f"R{k}@{t}": _nlq(
        SPANS, in_time(partial(ranked.hit_above, k=k, threshold=t)), f"one of the first {k} spans has IoU above {t}"
    )
    for k in (1, 5)
    for t in (0.3, 0.5)
}

_charades = partial(_metric, "Charades-STA (Gao et al. 2017)")
CHARADES_STA = {
    **{f"R1@{t}": _charades(SPANS, at_least(first_iou, t), f"IoU at least {t}") for t in (0.3, 0.5, 0.7)},
    "mIoU": _charades(SPANS, first_iou, "IoU of the first span with its best gold span"),
}


# Answer, time and space


def v_star_mean(case: Case) -> float | None:
    """AM: mean of accuracy, IoU of the first span, and J over the frames that hold evidence."""
    in_space = j_on_evidence_frames(case)
    return None if in_space is None else arithmetic_mean(accuracy(case), first_iou(case), in_space)


_vstar = partial(_metric, "V-STaR (Cheng et al. 2025), eval.py, masks for boxes")
V_STAR = {
    "Acc": _vstar(ANSWER, accuracy, "right; options stand for its judge of open answers"),
    "m_tIoU": _vstar(SPANS, first_iou, "IoU of the first span"),
    "R1@0.3": _vstar(SPANS, at_least(first_iou, 0.3), "IoU at least 0.3"),
    "m_vIoU": _vstar(MASKS, j_on_evidence_frames, "J over the frames that hold evidence"),
    "m_vIoU box": _vstar(BOXES, carried_forward_boxes, "box IoU over the frames that gold has a box in"),
    "AM": _vstar(ALL, v_star_mean, "mean of Acc, IoU and J over the frames that hold evidence"),
    "Acc & tIoU": _vstar(ANSWER_SPANS, both(accuracy, at_least(first_iou, 0.3)), "right, and tIoU at least 0.3"),
    "Acc & vIoU": _vstar(
        ("answer", "masks"), both(accuracy, at_least(j_on_evidence_frames, 0.1)), "right, and vIoU at least 0.1"
    ),
    "all three": _vstar(
        ALL,
        both(accuracy, at_least(first_iou, 0.3), at_least(j_on_evidence_frames, 0.1)),
        "right, tIoU at least 0.3 and vIoU at least 0.1",
    ),
}


def lgm(means: Mapping[str, Mean]) -> float | None:
    """LGM of the means of the preset v-star; None where one of them is absent."""
    titles = ("Acc", "m_tIoU", "m_vIoU")
    known = [mean for title in titles if title in means and (mean := means[title].mean) is not None]
    return log_geometric_mean(*known) if len(known) == len(titles) else None


_zero = partial(_metric, "VideoZeroBench, masks for boxes")
VIDEO_ZERO_BENCH = {
    "L3": _zero(ANSWER, accuracy, "right"),
    "L4": _zero(ANSWER_SPANS, both(accuracy, above(set_iou, 0.3)), "right, and tIoU above 0.3"),
    "L5": _zero(
        ALL, both(accuracy, above(set_iou, 0.3), above(j_on_evidence_frames, 0.3)), "right, tIoU and vIoU above 0.3"
    ),
}

_stvg = partial(_metric, "VidSTG (Zhang et al. 2020), HC-STVG (Tang et al. 2021)")
HC_STVG = {
    "m_vIoU box": _stvg(BOXES, tube_of_boxes, "box IoU summed over the frames of both, over the frames of either"),
    "vIoU@0.3 box": _stvg(BOXES, at_least(tube_of_boxes, 0.3), "vIoU of boxes at least 0.3"),
    "vIoU@0.5 box": _stvg(BOXES, at_least(tube_of_boxes, 0.5), "vIoU of boxes at least 0.5"),
    "m_vIoU": _stvg(MASKS, tube, "J summed over the frames of both, over the frames of either"),
    "vIoU@0.3": _stvg(MASKS, at_least(tube, 0.3), "vIoU at least 0.3"),
    "vIoU@0.5": _stvg(MASKS, at_least(tube, 0.5), "vIoU at least 0.5"),
}

PUBLISHED: dict[str, Preset] = {
    "nextgqa": Preset(
        metrics=NEXT_GQA,
        about="NExT-GQA: best gold span, hull as union, thresholds by >=; samples without a prediction leave the mean",
    ),
    "rextime": Preset(metrics=REXTIME, about="ReXTime: best gold span, hull as union, thresholds by >="),
    "cg-bench": Preset(metrics=CG_BENCH, about="CG-Bench: merged sets of spans, thresholds by >="),
    "tvqa-plus": Preset(metrics=TVQA_PLUS, about="TVQA+: hull as union, thresholds by >="),
    "qvhighlights": Preset(metrics=QVHIGHLIGHTS, about="QVHighlights: spans ranked by their order, ten at most"),
    "ego4d-nlq": Preset(metrics=EGO4D_NLQ, about="Ego4D NLQ: spans ranked by their order, thresholds by >"),
    "charades-sta": Preset(metrics=CHARADES_STA, about="Charades-STA: hull as union, thresholds by >="),
    "v-star": Preset(
        metrics=V_STAR, about="V-STaR: first span, masks for boxes, thresholds by >=", derived={"LGM": lgm}
    ),
    "video-zero-bench": Preset(
        metrics=VIDEO_ZERO_BENCH, about="VideoZeroBench: merged sets of spans, masks for boxes, thresholds by >"
    ),
    "hc-stvg": Preset(
        metrics=HC_STVG, about="VidSTG and HC-STVG: boxes, or masks in their place; frames of either side count"
    ),
}
