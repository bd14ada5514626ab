"""The original's prediction files, in and out, against its evaluator's formulas stated here once more."""

import dataclasses
import json
import math
import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from evqa import masks
from evqa.__main__ import main
from evqa.datasets import Dataset
from evqa.files.jsonl import write_records
from evqa.runs import prediction_files
from evqa.schema import RLE, Prediction, Sample, Span, Track
from evqa.scoring.evaluate import scores_of
from evqa.scoring.export import export

SIZE = (24, 32)
NUM_FRAMES = 6
OPTIONS = ("red", "blue", "green", "none", "A", "six", "seven")


# The original's evaluator, from its description: rows of the table, a prediction file, two folders of masks


def original_evaluator(rows, file, predicted_masks, gold_masks):
    predictions = json.loads(file.read_text())
    predictions = {entry: value for entry, value in predictions.items() if isinstance(value, dict)}
    right, ious, iops, js, fs = 0, [], [], [], []
    for row in rows:
        response = (predictions.get(row["entry_id"]) or {}).get("parsed_response") or {}
        right += original_choice(response.get("answer"), row["candidates"]) == row["answer"].strip()
        segments = accepted(response.get("segments", []))
        ious.append(overlap_over_union(segments, row["segment"]))
        iops.append(overlap_over_predicted(segments, row["segment"]))
        gold = gold_masks / row["entry_id"]
        if gold.is_dir():
            masks = masks_of_entry(predicted_masks / row["entry_id"] / "masks", gold)
            if masks is not None:
                js.append(masks[0])
                fs.append(masks[1])
    means = {
        "Acc": right / len(rows),
        "mIoU": np.mean(ious),
        "mIoP": np.mean(iops),
        "t-mean": np.mean([(iou + iop) / 2 for iou, iop in zip(ious, iops, strict=True)]),
        "IoU@0.3": np.mean([iou >= 0.3 for iou in ious]),
        "IoU@0.5": np.mean([iou >= 0.5 for iou in ious]),
        "IoP@0.3": np.mean([iop >= 0.3 for iop in iops]),
        "IoP@0.5": np.mean([iop >= 0.5 for iop in iops]),
    }
    if js:
        means |= {
            "J": np.mean(js),
            "F": np.mean(fs),
            "J&F": np.mean([(j + f) / 2 for j, f in zip(js, fs, strict=True)]),
        }
    return {name: 100 * float(value) for name, value in means.items()}


def original_choice(answer, candidates):
    if answer is None:
        return None
    answer = str(answer).strip()
    if answer in set("ABCDEF") and "ABCDEF".index(answer) < len(candidates):
        return candidates["ABCDEF".index(answer)].strip()
    return answer


def accepted(segments):
    if not isinstance(segments, list):
        return []
    if segments and all(isinstance(item, int | float) for item in segments):
        return [segments[at : at + 2] for at in range(0, len(segments) - 1, 2)]
    pairs = []
    for item in segments:
        if isinstance(item, dict) and "start" in item and "end" in item:
            item = [item["start"], item["end"]]
        elif isinstance(item, dict) and "start_time" in item and "end_time" in item:
            item = [item["start_time"], item["end_time"]]
        if isinstance(item, list) and len(item) >= 2:
            try:
                pairs.append([float(end) for end in item[:2]])
            except (ValueError, TypeError):
                continue
    return pairs


def seconds(segments):
    return sum(max(0, end - start) for start, end in segments)


def shared_seconds(first, second):
    return sum(max(0, min(b, d) - max(a, c)) for a, b in first for c, d in second)


def overlap_over_union(predicted, gold):
    shared = shared_seconds(predicted, gold)
    union = seconds(gold) + seconds(predicted) - shared
    return shared / union if predicted and gold and union > 0 else 0


def overlap_over_predicted(predicted, gold):
    return shared_seconds(predicted, gold) / seconds(predicted) if predicted and gold and seconds(predicted) > 0 else 0


def masks_of_entry(folder, gold_folder):
    files = sorted(folder.glob("*.png"))
    values = []
    for file in files:
        try:
            predicted = np.asarray(Image.open(file).convert("L")) > 0
        except OSError:
            continue
        gold_file = gold_folder / file.name
        gold = np.asarray(Image.open(gold_file).convert("L")) > 0 if gold_file.exists() else np.zeros_like(predicted)
        values.append(one_frame(predicted, gold))
    if files and not values:
        return None
    return tuple(np.mean(values, axis=0)) if values else (0.0, 0.0)


def one_frame(predicted, gold):
    if not predicted.any() and not gold.any():
        return 1.0, 1.0
    if not predicted.any() or not gold.any():
        return 0.0, 0.0
    return (predicted & gold).sum() / (predicted | gold).sum(), boundary(predicted, gold)


def boundary(predicted, gold):
    radius = math.ceil(0.008 * math.hypot(*predicted.shape))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = x**2 + y**2 <= radius**2
    first, second = edges(predicted), edges(gold)
    if not first.any() or not second.any():
        return float(first.any() == second.any())
    precision = (first & ndimage.binary_dilation(second, disk)).sum() / first.sum()
    recall = (second & ndimage.binary_dilation(first, disk)).sum() / second.sum()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def edges(mask):
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    centre, right, below, corner = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    outline = (centre ^ right) | (centre ^ below) | (centre ^ corner)
    outline[-1, :] = (centre ^ right)[-1, :]
    outline[:, -1] = (centre ^ below)[:, -1]
    outline[-1, -1] = False
    return outline


# A data set on disk: four entries on two videos, the last without gold masks


def evidence(index, shift=0):
    mask = np.zeros(SIZE, dtype=bool)
    mask[4:14, 2 + index + shift : 12 + index + shift] = True
    return mask


ENTRIES = {
    "e0": ("v0", 0, ((0.0, 1.0),)),
    "e1": ("v0", 1, ((0.0, 0.4), (0.2, 0.8))),
    "e2": ("v1", 6, ()),
    "e3": ("v1", 4, None),
}


def make_dataset(folder):
    samples = []
    for name in ("v0", "v1"):
        (folder / "videos" / name).mkdir(parents=True)
        for index in range(NUM_FRAMES):
            Image.new("RGB", SIZE[::-1]).save(folder / "videos" / name / f"{index:05d}.png")
    for entry, (video, answer, spans) in ENTRIES.items():
        if entry != "e3":
            masks.write_folder(folder / "gold" / entry, ((index, evidence(index)) for index in range(1, 4)))
        samples.append(
            Sample(
                id=entry,
                video_id=video,
                video=Path("videos", video),
                question=f"Which is {entry}?",
                options=OPTIONS,
                answer=answer,
                spans=spans,
                masks=Path("gold", entry) if entry != "e3" else None,
            )
        )
    write_records(folder / "samples.jsonl", samples)
    absolute = [
        sample.model_copy(
            update={"video": folder / sample.video, "masks": folder / sample.masks if sample.masks else None}
        )
        for sample in samples
    ]
    return Dataset("small", folder, tuple(absolute), (), "0" * 64)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("small"))


def table_rows(dataset):
    return [
        {
            "entry_id": sample.id,
            "candidates": list(sample.options),
            "answer": sample.options[sample.answer],
            "segment": [list(span) for span in sample.spans or ()],
        }
        for sample in dataset.samples
    ]


def response(answer="A", segments=(), **more):
    return {"video_id": "v", "parsed_response": {"answer": answer, "segments": segments, **more}}


def scored(file, dataset, masks_in=None, preset="st-evidence"):
    predictions = prediction_files.open_predictions(file, dataset, masks_in)
    (row,) = scores_of(predictions, dataset, [preset], "run")
    return row


def means(row):
    """In percent, as the original prints them."""
    return {name: 100 * mean.mean for name, mean in row.metrics.items() if mean.mean is not None}


def same_numbers(row, file, dataset, predicted_masks):
    expected = original_evaluator(table_rows(dataset), file, predicted_masks, dataset.folder / "gold")
    assert means(row) == pytest.approx(expected, abs=1e-9)
    return expected


def write_gen(folder, entries, stem="model_st_evidence_1.0fps"):
    folder.mkdir(exist_ok=True)
    file = folder / f"{stem}.json"
    file.write_text(json.dumps(entries, indent=2))
    return file


# Reading


@pytest.mark.parametrize("below", [".", "concat", "seperate"])
def test_a_generative_file_with_its_masks_scores_as_the_original_scores_it(tmp_path, dataset, below):
    file = write_gen(
        tmp_path,
        {
            "e0": response("A", [[0.0, 1.0], [0.0, 1.0], [0.5, 2]], referring_expressions=["the red one"]),
            "e1": response("blue", [0.1, 0.5, 0.6]),
            "e2": response("seven", [{"start": 1, "end_time": 2}]),
            "nobody": response(),
        },
    )
    root = file.with_suffix("") / below
    masks.write_folder(root / "e0" / "masks", ((index, evidence(index, 1)) for index in range(NUM_FRAMES)))
    masks.write_folder(root / "e1" / "masks", [(1, evidence(1))])
    masks.write_folder(root / "e2" / "masks", [(index, np.zeros(SIZE, bool)) for index in range(NUM_FRAMES)])
    row = scored(file, dataset)
    expected = same_numbers(row, file, dataset, root)
    assert expected["Acc"] == 75
    assert expected["mIoU"] > 25
    assert 60 < expected["J"] < 65
    assert (row.counts.samples, row.counts.ok, row.counts.missing, row.counts.unknown) == (4, 3, 1, 1)
    assert f"the original's generative form, 4 records, masks in {root}" in row.source
    strict = scored(file, dataset, preset="strict")
    assert strict.metrics["Acc"].mean == 0.75
    assert strict.metrics["mIoU"].n_unparsed == 1


ODD = [
    (response("b", [[0, 1]]), "Acc", 0, 0),
    (response("(A)", []), "Acc", 0, 1),
    (response(" A ", []), "Acc", 1, 1),
    (response("red", []), "Acc", 1, 1),
    (response("Red.", []), "Acc", 0, 1),
    (response(3, []), "Acc", 0, 0),
    (response(True, []), "Acc", 0, 0),
    (response(["A"], []), "Acc", 0, 0),
    (response("A", [["0.0", "1.0"]]), "mIoU", 1, 1),
    (response("A", [[" 0 ", "1e0"], ["2", "x"]]), "mIoU", 1, 0),
    (response("A", ["0.0", "1.0"]), "mIoU", 0, 1),
    (response("A", [[False, True]]), "mIoU", 1, 0),
    (response("A", [{"start": "0", "end": "1"}]), "mIoU", 1, 1),
    (response("A", [{"start": 0, "end_time": 1}]), "mIoU", 0, 1),
    (response("A", [{"start": None, "end": 1, "start_time": 0, "end_time": 1}]), "mIoU", 0, 0),
    ({"video_id": "v", "parsed_response": {"answer": "A"}}, "mIoU", 0, 0),
    (response("A", [[0.0, 1.0]] * 3), "mIoU", 3, 1),
    (response("A", [[5, 3], [0.0, 1.0]]), "mIoU", 1, 0),
    (response("A", [[-1.0, 1.0]]), "mIoU", 0.5, 0),
    (response("A", [[0.0, 1e999]]), "mIoU", 0, 0),
    (response("A", [[0.0, float("nan")]]), "mIoU", 0, 0),
    (response("A", [["0:00", "0:01"]]), "mIoU", 0, 1),
    (response("A", [[0.0, 1.0, 9]]), "mIoU", 1, 0),
    (response("A", [[0.0, 1.0], "x"]), "mIoU", 1, 0),
    (response("A", "[[0, 1]]"), "mIoU", 0, 0),
    (response("A", {"start": 0, "end": 1}), "mIoU", 0, 1),
    (response("A", None), "mIoU", 0, 0),
    ({"video_id": "v", "parsed_response": None}, "mIoU", 0, 0),
    ({"video_id": "v", "parsed_response": None, "error": "out of memory"}, "Acc", 0, 0),
    ({"video_id": "v", "parsed_response": None, "parse_error": True}, "Acc", 0, 0),
]


@pytest.mark.parametrize(("entry", "metric", "original_score", "own_score"), ODD)
def test_an_odd_entry_counts_there_as_there_and_here_as_it_means(
    tmp_path, dataset, entry, metric, original_score, own_score
):
    file = write_gen(tmp_path, {"e0": entry})
    legacy, strict = scored(file, dataset), scored(file, dataset, preset="strict")
    assert legacy.samples["e0"].values[metric] == pytest.approx(original_score)
    assert strict.samples["e0"].values[metric] == pytest.approx(own_score)
    if "NaN" not in file.read_text() and "Infinity" not in file.read_text():
        same_numbers(legacy, file, dataset, tmp_path)


MALFORMED = [
    ("null", None, "key 'e0': entry: expected an object, got 'None'"),
    ("[1]", None, "key 'e0': entry: expected an object, got '[1]'"),
    ('{"parsed_response": [[1, 2]]}', None, "key 'e0': parsed_response: expected an object"),
    ('{"parsed_response": {"answer": 3}}', None, "key 'e0': answer: expected a letter or an option's text, got '3'"),
    ('{"parsed_response": {"segments": [[5, 3]]}}', None, "key 'e0': segments: expected [[start, end], ...] with 0"),
    ('{"parsed_response": {"segments": [[-1, 3]]}}', None, "key 'e0': segments: expected"),
    ('{"parsed_response": {"segments": [[NaN, 3]]}}', None, "key 'e0': segments: expected"),
    ('{"parsed_response": {"segments": [[0, Infinity]]}}', None, "key 'e0': segments: expected"),
    ('{"parsed_response": {"segments": [[0, 1e999]]}}', None, "key 'e0': segments: expected"),
    ('{"parsed_response": {"referring_expressions": "x"}}', None, "key 'e0': referring_expressions: expected a list"),
    ('{"parsed_response": {}, "mask_folder": "../../etc"}', None, "key 'e0': mask_folder: path leaves its folder"),
    ('{"parsed_response": {}, "mask_folder": "/etc"}', None, "key 'e0': mask_folder: path leaves its folder"),
    ('{"parsed_response": {}, "mask_folder": 3}', None, "key 'e0': mask_folder: expected a path"),
    ('{"parsed_response": {"answer": "A" "B"}}', None, "key 'e0': it is no JSON: Expecting ',' delimiter"),
    ("[" * 200_000 + "]" * 200_000, None, "key 'e0': it is nested too deeply"),
    ('{"parsed_response": {"answer": ' + "9" * 5000 + "}}", None, "key 'e0': it is no JSON: Exceeds the limit"),
    ('{"parsed_response": {"answer": "\udcff"}}', None, "key 'e0': it is not UTF-8"),
    ('{"parsed_response": {"answer": "\\ud800"}}', 0, ""),
]


@pytest.mark.parametrize(("entry", "problems", "reason"), MALFORMED)
def test_a_malformed_entry_is_named_and_nothing_else_is_lost(tmp_path, dataset, entry, problems, reason):
    file = tmp_path / "odd.json"
    good = json.dumps(response("A", [[0.0, 1.0]]))
    file.write_bytes(f'{{"e0": {entry},\n "e1": {good}}}'.encode("utf-8", "surrogateescape"))
    row = scored(file, dataset, preset="strict")
    assert row.samples["e1"].values["mIoU"] == pytest.approx(1 / 0.8 * 0.8 / 1.0 * 0.8)
    assert row.counts.malformed == (1 if problems is None else problems)
    if problems is None:
        assert row.problems[0].startswith(f"{file}:1: {reason}"), row.problems


def test_a_file_that_is_cut_off_keeps_what_is_before_the_cut(tmp_path, dataset):
    whole = json.dumps({"e0": response("A", [[0.0, 1.0]]), "e1": response("B", [])}, indent=2)
    file = tmp_path / "cut.json"
    file.write_text(whole[: whole.index('"B"')])
    row = scored(file, dataset, preset="strict")
    assert [row.samples[entry].status for entry in ENTRIES] == ["ok", "failed", "missing", "missing"]
    assert "key 'e1': the file ends inside the entry" in row.problems[0]


def test_a_broken_entry_of_an_indented_file_costs_only_itself(tmp_path, dataset):
    whole = json.dumps({entry: response("A", [[0.0, 1.0]]) for entry in ENTRIES}, indent=2)
    file = tmp_path / "broken.json"
    file.write_text(whole.replace('"segments": [', '"segments": [ {"', 1))
    row = scored(file, dataset, preset="strict")
    assert [row.samples[entry].status for entry in ENTRIES] == ["failed", "ok", "ok", "ok"]


@pytest.mark.parametrize("content", ["[1, 2]", '"text"', "\x89PNG", "3"])
def test_a_file_that_is_no_object_is_refused_with_what_was_expected(tmp_path, dataset, content):
    file = tmp_path / "other.json"
    file.write_text(content)
    with pytest.raises(ValueError, match="expected our records, one a line, or a JSON object of entries"):
        prediction_files.open_predictions(file, dataset)


def test_a_damaged_mask_is_named_and_costs_only_the_masks_of_its_entry(tmp_path, dataset):
    file = write_gen(tmp_path, {"e0": response("A", [[0.0, 1.0]]), "e1": response("B", [])})
    for entry in ("e0", "e1"):
        masks.write_folder(file.with_suffix("") / entry / "masks", [(1, evidence(1))])
    (file.with_suffix("") / "e0" / "masks" / "00002.png").write_bytes(b"\x89PNG no more")
    row = scored(file, dataset, preset="strict")
    assert (row.samples["e0"].values["J"], row.samples["e0"].values["mIoU"]) == (0.0, 1.0)
    assert row.samples["e1"].values["J"] == pytest.approx((1 + 3) / NUM_FRAMES)
    assert "key e0: masks: " in row.problems[0]
    assert "00002.png cannot be read as PNG" in row.problems[0]


def test_a_mask_folder_that_links_elsewhere_is_named(tmp_path, dataset):
    file = write_gen(tmp_path, {"e0": response(), "e1": response()})
    masks.write_folder(tmp_path / "secret", [(1, evidence(1))])
    masks.write_folder(file.with_suffix("") / "e1" / "masks", [(1, evidence(1))])
    (file.with_suffix("") / "e0").mkdir()
    (file.with_suffix("") / "e0" / "masks").symlink_to(tmp_path / "secret")
    row = scored(file, dataset, preset="strict")
    assert row.samples["e0"].values["J"] == 0
    assert "is a link to" in row.problems[0]


def test_a_folder_of_masks_can_be_named(tmp_path, dataset):
    file = write_gen(tmp_path, {"e0": response("A", [])})
    masks.write_folder(tmp_path / "elsewhere" / "e0" / "masks", ((i, evidence(i)) for i in range(1, 4)))
    assert scored(file, dataset).samples["e0"].values["J"] == 0
    assert scored(file, dataset, tmp_path / "elsewhere").samples["e0"].values["J"] == 1
    with pytest.raises(ValueError, match="is no folder: leave it out"):
        prediction_files.open_predictions(file, dataset, tmp_path / "nowhere")


# Multiple choice


def choice_dataset(folder):
    sample = Sample(
        id="e0",
        video_id="v",
        video=folder / "v.mp4",
        question="What?",
        options=("x", "y", "z", "u", "v"),
        answer=1,
        time_options=((Span(0, 1),), (Span(1, 2),), (Span(2, 3),), (Span(3, 4),)),
        time_answer=2,
        mask_options=tuple(folder / f"{name}.png" for name in "abcd"),
        mask_answer=3,
    )
    return Dataset("choices", folder, (sample,), (), "0" * 64)


ALL = {
    "answer": "B",
    "gt_answer": "B",
    "evidence_t": "C",
    "gt_evidence_t": "C",
    "evidence_s": None,
    "gt_evidence_s": "D",
}
CHOICES = [
    ("m_all_1.0fps", ALL, (1, 2, None), []),
    ("m_qa_1.0fps", {"answer": "E", "gt_answer": "B"}, (4, None, None), []),
    ("m_time_evidence_1.0fps", {"answer": "A", "gt_answer": "C"}, (None, 0, None), []),
    ("m_spatial_evidence_1.0fps", {"answer": "D", "gt_answer": "D", "gt_index": 3}, (None, None, 3), []),
    (
        "m_time_evidence",
        {"answer": "E", "gt_answer": "C"},
        (None, None, None),
        ["answer: expected a letter of 4 options"],
    ),
    ("m_all", ALL | {"answer": "b"}, (None, 2, None), ["answer: expected a letter of 5 options, got 'b'"]),
    ("m_all", ALL | {"gt_evidence_t": "A"}, (1, 2, None), ["gt_evidence_t: the file says 'A', the data set 'C'"]),
]


@pytest.mark.parametrize(("stem", "entry", "choices", "problems"), CHOICES)
def test_a_multiple_choice_file_is_told_from_its_keys_and_name(tmp_path, stem, entry, choices, problems):
    file = write_gen(tmp_path, {"e0": entry}, stem)
    dataset = choice_dataset(tmp_path)
    predictions = prediction_files.open_predictions(file, dataset)
    assert predictions.form == "original-mcq"
    prediction = predictions.get(dataset.samples[0])
    assert (prediction.answer, prediction.time_choice, prediction.mask_choice) == choices
    assert len(predictions.problems.first) == len(problems)
    for problem, expected in zip(predictions.problems.first, problems, strict=True):
        assert f"key 'e0': {expected}" in problem


def test_choices_survive_the_way_out_and_in(tmp_path):
    dataset = choice_dataset(tmp_path)
    prediction = Prediction(sample_id="e0", status="ok", answer=1, time_choice=0, mask_choice=None)
    write_records(tmp_path / "mine.jsonl", [prediction])
    result = export(
        prediction_files.open_predictions(tmp_path / "mine.jsonl", dataset), dataset, tmp_path / "out", "mine_all"
    )
    assert json.loads(result.path.read_text()) == {
        "e0": {
            "answer": "B",
            "gt_answer": "B",
            "evidence_t": "A",
            "gt_evidence_t": "C",
            "evidence_s": None,
            "gt_evidence_s": "D",
        }
    }
    assert prediction_files.open_predictions(result.path, dataset).get(dataset.samples[0]) == prediction


def test_choices_are_scored_in_our_convention_and_in_the_original_s(tmp_path, capsys):
    sample = choice_dataset(tmp_path).samples[0]
    samples = tuple(sample.model_copy(update={"id": f"e{number}"}) for number in range(4))
    dataset = Dataset("choices", tmp_path, samples, (), "0" * 64)
    wrong = ALL | {"evidence_t": "A", "evidence_s": "D"}
    file = write_gen(tmp_path, {"e0": ALL | {"evidence_s": "D"}, "e1": wrong, "e2": ALL}, "m_all_1fps")
    assert main(["score", str(file), "--data", str(written_dataset(dataset))]) == 0
    assert "m_all_1fps: overall 77.8" in capsys.readouterr().out  # 7 of 9 questions, pooled
    rows = json.loads((tmp_path / "m_all_1fps.scores.json").read_text())
    responses = {
        (row["name"], row["preset"]): {title: mean["mean"] for title, mean in row["metrics"].items()} for row in rows
    }
    assert responses["m_all_1fps", "mcq"] == {"Acc": 0.75, "Acc time": 0.5, "Acc space": 0.5, "all right": 0.25}
    original_scores = {"Acc": 1.0, "Acc time": 2 / 3, "Acc space": 2 / 3}
    assert responses["m_all_1fps", "st-evidence-mcq"] == pytest.approx(original_scores)
    assert responses["chance", "mcq"] == {"Acc": pytest.approx(0.2), "Acc time": 0.25, "Acc space": 0.25}


def mean_values(row):
    return {title: mean["mean"] for title, mean in row["metrics"].items()}


def written_dataset(dataset):
    relative = {"video": Path("v.mp4"), "mask_options": tuple(Path(f"{name}.png") for name in "abcd")}
    write_records(dataset.folder / "samples.jsonl", [sample.model_copy(update=relative) for sample in dataset.samples])
    return dataset.folder


# The way out


def track(indices, shift=0, size=SIZE):
    frames = {index: masks.encode(masks.resize(evidence(index, shift), size)) for index in indices}
    return Track(masks=frames)


EXPORTED = [
    Prediction(
        sample_id="e0",
        status="ok",
        answer=0,
        spans=(Span(0.0, 1.0), Span(0.0, 1.0), Span(0.5, 0.7)),
        tracks=(track([0, 1, 2], 2), track([2, 3])),
        mask_size=SIZE,
    ),
    Prediction(
        sample_id="e1",
        status="ok",
        answer=6,
        spans=(Span(0.1, 0.5),),
        tracks=(track([1, 3], 1, (48, 64)),),
        mask_frames=(1, 3, 5),
        expressions=("it",),
    ),
    Prediction(sample_id="e2", status="ok", answer=6, spans=(), tracks=(Track(masks={}),), mask_size=SIZE),
    Prediction(sample_id="e3", status="failed", error="out of memory"),
]


def test_an_exported_run_gets_the_preset_s_numbers_from_the_original_s_evaluator(tmp_path, dataset):
    write_records(tmp_path / "mine.jsonl", EXPORTED)
    predictions = prediction_files.open_predictions(tmp_path / "mine.jsonl", dataset)
    result = export(predictions, dataset, tmp_path / "out", "mine")
    assert (result.entries, result.with_masks, result.unwritable) == (4, 3, ())
    row = scored(tmp_path / "mine.jsonl", dataset)
    expected = same_numbers(row, result.path, dataset, tmp_path / "out" / "mine")
    assert expected["mIoU"] > 40
    assert 20 < expected["F"] < 90
    files = sorted(path.name for path in (tmp_path / "out" / "mine" / "e0" / "masks").iterdir())
    assert files == [f"{index:05d}.png" for index in range(NUM_FRAMES)]
    assert len(list((tmp_path / "out" / "mine" / "e1" / "masks").iterdir())) == 3
    again = scored(result.path, dataset)
    assert means(again) == pytest.approx(means(row))
    assert means(scored(result.path, dataset, preset="strict")) == pytest.approx(
        means(scored(tmp_path / "mine.jsonl", dataset, preset="strict"))
    )


PARTS = {"Acc": "answer", "Acc time": "evidence_t", "Acc space": "evidence_s"}
"""Title here -> key there."""


def original_choices(entries):
    """`eval_st_evidence_mcq.py` as it is described: shares of the entries with a gold letter, and all pooled."""
    counts = {}
    for title, key in PARTS.items():
        answerable = [entry for entry in entries.values() if entry.get(f"gt_{key}") not in (None, "", "None")]
        counts[title] = (sum(entry.get(key) == entry[f"gt_{key}"] for entry in answerable), len(answerable))
    shares = {title: 100 * right / total for title, (right, total) in counts.items()}
    rights, totals = zip(*counts.values(), strict=True)
    return shares, 100 * sum(rights) / sum(totals)


def test_exported_choices_get_the_preset_s_numbers_from_the_original_s_evaluator(tmp_path, capsys):
    sample = choice_dataset(tmp_path).samples[0]
    samples = [sample.model_copy(update={"id": f"e{number}", "answer": number % 5}) for number in range(7)]
    samples[2] = samples[2].model_copy(update={"mask_options": (), "mask_answer": None})
    dataset = Dataset("choices", tmp_path, tuple(samples), (), "0" * 64)
    folder = written_dataset(dataset)
    choices = [(0, 2, 3), (0, 2, None), (2, 1, None), (None, None, 1), (4, 2, 3)]
    predictions = [
        Prediction(sample_id=f"e{number}", status="ok", answer=answer, time_choice=time, mask_choice=space)
        for number, (answer, time, space) in enumerate(choices)
    ]
    write_records(
        tmp_path / "mine.jsonl", [*predictions, Prediction(sample_id="e5", status="failed", error="no memory")]
    )
    assert main(["export", str(tmp_path / "mine.jsonl"), "--data", str(folder), "--out", str(tmp_path / "out")]) == 0
    (file,) = (tmp_path / "out").glob("*.json")
    shares, overall = original_choices(json.loads(file.read_text()))
    assert shares == pytest.approx({"Acc": 50.0, "Acc time": 50.0, "Acc space": 40.0})
    for path in (tmp_path / "mine.jsonl", file):
        capsys.readouterr()
        assert main(["score", str(path), "--data", str(folder), "--preset", "st-evidence-mcq"]) == 0
        assert f"overall {overall:.1f}" in capsys.readouterr().out
        rows = json.loads(path.with_name(f"{path.stem}.scores.json").read_text())
        own_row = next(row for row in rows if row["name"] == path.stem)
        assert {title: 100 * mean for title, mean in mean_values(own_row).items()} == pytest.approx(shares)
        assert 100 * own_row["derived"]["overall"]["value"] == pytest.approx(overall)


def test_choices_are_compared_and_reported_by_their_own_presets(tmp_path, capsys):
    folder = written_dataset(choice_dataset(tmp_path))
    for name, when in (("one", 2), ("two", 1)):
        write_records(tmp_path / f"{name}.jsonl", [Prediction(sample_id="e0", status="ok", answer=1, time_choice=when)])
    runs = [str(tmp_path / f"{name}.jsonl") for name in ("one", "two")]
    assert main(["compare", *runs, "--data", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "preset mcq" in text
    assert "Acc time" in text
    assert main(["report", *runs, "--data", str(folder), "--out", str(tmp_path / "page")]) == 0
    text = (tmp_path / "page" / "report.md").read_text()
    assert "preset mcq" in text
    assert "preset st-evidence-mcq" in text
    assert "mIoU" not in text


def test_a_prediction_with_a_damaged_mask_is_named_and_the_rest_is_exported(tmp_path, dataset):
    broken = Track(masks={1: RLE(size=SIZE, counts="x?")})
    damaged = Prediction(sample_id="e1", status="ok", answer=1, tracks=(broken,))
    write_records(tmp_path / "mine.jsonl", [EXPORTED[0], damaged])
    result = export(
        prediction_files.open_predictions(tmp_path / "mine.jsonl", dataset), dataset, tmp_path / "out", "mine"
    )
    assert (result.entries, result.with_masks) == (2, 1)
    assert result.unwritable[0].startswith("e1: ")
    assert not (tmp_path / "out" / "mine" / "e1").exists()
    same_numbers(scored(tmp_path / "mine.jsonl", dataset), result.path, dataset, tmp_path / "out" / "mine")


def test_masks_that_fail_before_the_first_file_are_named_and_the_rest_is_exported(tmp_path, dataset):
    empty = dataset.folder / "nothing"
    empty.mkdir(exist_ok=True)
    samples = [sample.model_copy(update={"masks": empty}) for sample in dataset.samples]
    sizes = [Track(masks={0: masks.encode(np.ones(size, bool))}) for size in (SIZE, (3, 3))]
    damaged = Prediction(sample_id="e1", status="ok", answer=1, tracks=tuple(sizes))
    write_records(tmp_path / "mine.jsonl", [EXPORTED[0], damaged])
    data = dataclasses.replace(dataset, samples=samples)
    result = export(prediction_files.open_predictions(tmp_path / "mine.jsonl", data), data, tmp_path / "out", "mine")
    assert (result.entries, [name[:4] for name in result.unwritable]) == (2, ["e1: "])


def test_a_choice_that_is_no_option_is_exported_as_none(tmp_path, capsys):
    folder = tmp_path / "data"
    folder.mkdir()
    question_sample = Sample(
        id="e0", video_id="v", video=Path("v.mp4"), question="?", options=OPTIONS, answer=0,
        time_options=((Span(0, 1),), (Span(1, 2),)), time_answer=0,
    )  # fmt: skip
    write_records(folder / "samples.jsonl", [question_sample])
    write_records(tmp_path / "mine.jsonl", [Prediction(sample_id="e0", status="ok", answer=40, time_choice=-1)])
    assert main(["export", str(tmp_path / "mine.jsonl"), "--data", str(folder), "--out", str(tmp_path / "out")]) == 0
    entry = json.loads((tmp_path / "out" / "mine.json").read_text())["e0"]
    assert (entry["answer"], entry["evidence_t"]) == (None, None)


def test_an_export_overwrites_nothing(tmp_path, dataset):
    write_records(tmp_path / "mine.jsonl", EXPORTED)
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="is there already"):
        export(prediction_files.open_predictions(tmp_path / "mine.jsonl", dataset), dataset, tmp_path / "out", "mine")
    assert list((tmp_path / "out").iterdir()) == []


NUMBERS = ("3", "2", "3.5", "True", "None")


def test_a_numeric_answer_is_the_text_of_an_option(tmp_path, dataset):
    """`str()` of it is compared, as the original does: an option 3 is answered by 3 and by "3", not by its place."""
    samples = tuple(sample.model_copy(update={"options": NUMBERS, "answer": 0}) for sample in dataset.samples)
    data = dataclasses.replace(dataset, samples=samples)
    file = write_gen(
        tmp_path,
        {name: response(answer) for name, answer in zip(ENTRIES, (3, "3", 3.0, None), strict=True)},
    )
    legacy, strict = scored(file, data), scored(file, data, preset="strict")
    same_numbers(legacy, file, data, tmp_path)
    assert [row.values["Acc"] for row in legacy.samples.values()] == [1, 1, 0, 0]
    assert [row.values["Acc"] for row in strict.samples.values()] == [1, 1, 0, 0]
    nothing = dataclasses.replace(data, samples=tuple(s.model_copy(update={"answer": 4}) for s in samples))
    assert means(scored(file, nothing))["Acc"] == 0  # null is no answer "None"


@pytest.mark.parametrize("below", [".", "concat"])
def test_masks_that_lie_beside_a_file_count_there_whatever_the_file_says(tmp_path, dataset, below):
    """e0 has no entry, e1 failed, e2 is no object; a file that cannot be read is left out, and gold's name decides."""
    error = {"video_id": "v", "parsed_response": None, "error": "out of memory"}
    file = write_gen(tmp_path, {"e1": error, "e2": [1], "e3": response()})
    root = file.with_suffix("") / below
    masks.write_folder(root / "e0" / "masks", ((index, evidence(index, 1)) for index in range(NUM_FRAMES)))
    masks.write_folder(root / "e1" / "masks", [(1, evidence(1)), (NUM_FRAMES + 3, evidence(1))])
    (root / "e1" / "masks" / "00002.png").write_bytes(b"\x89PNG no more")
    masks.write_folder(root / "e2" / "masks", [(2, evidence(2, 1))])
    legacy, strict = scored(file, dataset), scored(file, dataset, preset="strict")
    expected = same_numbers(legacy, file, dataset, root)
    assert expected["J"] > 50
    assert (
        legacy.samples["e1"].values["J"] == 0.5
    )  # one right frame, and one beyond the video on which gold has nothing
    assert (strict.metrics["J"].mean, strict.counts.ok, strict.counts.missing, strict.counts.failed) == (0, 1, 1, 2)
    assert legacy.counts == strict.counts


def test_an_entry_whose_mask_files_cannot_be_read_leaves_the_mean_there_and_counts_0_here(tmp_path, dataset):
    file = write_gen(tmp_path, {"e0": response(), "e1": response()})
    masks.write_folder(file.with_suffix("") / "e1" / "masks", [(1, evidence(1))])
    (file.with_suffix("") / "e0" / "masks").mkdir(parents=True)
    (file.with_suffix("") / "e0" / "masks" / "00001.png").write_bytes(b"no PNG")
    legacy, strict = scored(file, dataset), scored(file, dataset, preset="strict")
    same_numbers(legacy, file, dataset, file.with_suffix(""))
    assert (legacy.metrics["J"].n_total, strict.metrics["J"].n_total) == (2, 3)
    assert strict.samples["e0"].values["J"] == 0


TIMES = st.one_of(st.integers(-2, 9), st.floats(-2, 9, allow_nan=False).map(lambda value: round(value, 2)))
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    TIMES,
    TIMES.map(str),
    st.text(string.ascii_letters + "()., ", max_size=4),
    st.just("0:05"),
    st.just([]),
)
SEGMENTS = st.one_of(
    ANYTHING,
    st.lists(st.lists(TIMES, min_size=2, max_size=2), max_size=4),
    st.lists(TIMES, max_size=5),
    st.lists(
        st.one_of(
            st.lists(st.one_of(TIMES, ANYTHING), max_size=3),
            ANYTHING,
            st.fixed_dictionaries({"start": TIMES, "end": TIMES}),
            st.fixed_dictionaries({"start_time": TIMES}, optional={"end": TIMES, "end_time": TIMES}),
        ),
        max_size=4,
    ),
)
RESPONSES = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {}, optional={"answer": st.one_of(ANYTHING, st.sampled_from([*"ABCDEFGab", *OPTIONS])), "segments": SEGMENTS}
    ),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(list(ENTRIES)), RESPONSES))
def test_any_record_scores_as_the_original_s_formulas_say(tmp_path, dataset, responses):
    plain = Dataset(
        "plain", dataset.folder, tuple(s.model_copy(update={"masks": None}) for s in dataset.samples), (), ""
    )
    file = write_gen(tmp_path, {entry: {"parsed_response": value} for entry, value in responses.items()})
    row = scored(file, plain)
    expected = original_evaluator(table_rows(plain), file, tmp_path / "none", tmp_path / "none")
    assert {name: means(row)[name] for name in expected} == pytest.approx(expected, abs=1e-9)


# By command


def test_the_commands_score_export_and_score_again(tmp_path, dataset, capsys):
    write_records(tmp_path / "mine.jsonl", EXPORTED)
    data = ["--data", str(dataset.folder)]
    assert main(["export", str(tmp_path / "mine.jsonl"), *data]) == 0
    assert "4 entries, 3 with masks" in capsys.readouterr().out
    exported = tmp_path / "mine.original" / "mine.json"
    assert main(["score", str(exported), *data]) == 0
    text = capsys.readouterr().out
    assert f"{exported}: the original's generative form, 4 records, masks in {exported.with_suffix('')}" in text
    rows = json.loads((exported.parent / "mine.scores.json").read_text())
    assert {row["preset"] for row in rows} == {"strict", "st-evidence"}


@pytest.mark.parametrize("num_frames", [None, NUM_FRAMES])
def test_an_export_without_the_videos_has_as_many_masks_as_the_data_set_says(tmp_path, dataset, num_frames):
    """And none where it does not say: a prediction that claims a million frames would fill the disk with black ones."""
    absent = {"video": tmp_path / "absent.mp4", "num_frames": num_frames}
    data = dataclasses.replace(dataset, samples=tuple(s.model_copy(update=absent) for s in dataset.samples))
    write_records(tmp_path / "mine.jsonl", [EXPORTED[0].model_copy(update={"num_frames": 10**6})])
    result = export(prediction_files.open_predictions(tmp_path / "mine.jsonl", data), data, tmp_path / "out", "mine")
    files = list((tmp_path / "out").rglob("*.png"))
    assert len(files) == (num_frames or 0)
    assert [reason.startswith("e0: the number of frames of") for reason in result.unwritable] == [True] * (
        not num_frames
    )
