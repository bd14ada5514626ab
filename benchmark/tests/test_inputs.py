"""Files of predictions in every form and state; masks as run lengths, as images, as both; tables of what came out."""

import csv
import json
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evqa import masks, schema
from evqa.__main__ import main
from evqa.datasets import Dataset, load
from evqa.files import jsonl
from evqa.files.jsonl import write_records
from evqa.runs import prediction_files
from evqa.schema import Prediction, Sample, Span, Track
from evqa.scoring.evaluate import scores_of
from evqa.scoring.results import Scores

SIZE = (24, 32)
NUM_FRAMES = 4
IDS = ("e0", "e1", "e2")


def evidence(index: int) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=bool)
    mask[4:14, 2 + index : 12 + index] = True
    return mask


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    folder = tmp_path_factory.mktemp("data")
    (folder / "video").mkdir()
    for index in range(NUM_FRAMES):
        Image.new("RGB", SIZE[::-1]).save(folder / "video" / f"{index:05d}.png")
    masks.write_folder(folder / "gold", ((index, evidence(index)) for index in range(NUM_FRAMES)))
    write_records(folder / "samples.jsonl", [sample(name) for name in IDS])
    return load(str(folder))


def sample(name: str) -> Sample:
    return Sample(
        id=name,
        video_id=f"v_{name}",
        video=Path("video"),
        question="Which?",
        options=("red & blue", "100 %"),
        answer=0,
        spans=(Span(0.0, 0.5),),
        masks=Path("gold"),
        question_type="what",
    )


def line(name: str, **fields: object) -> str:
    return json.dumps({"sample": name, "status": "ok", "answer": 0, "spans": [[0.0, 0.5]], **fields})


def scored(path: Path, dataset: Dataset, preset: str = "strict") -> Scores:
    (row,) = scores_of(prediction_files.open_predictions(path, dataset), dataset, [preset], "run")
    return row


def written(folder: Path, *lines: str | bytes, end: bytes = b"\n", name: str = "mine.jsonl") -> Path:
    path = folder / name
    path.write_bytes(b"\n".join(text.encode() if isinstance(text, str) else text for text in lines) + end)
    return path


def test_any_mix_of_run_lengths_and_images_scores_the_same(tmp_path, dataset):
    runs = Track(masks={index: masks.encode(evidence(index)) for index in range(NUM_FRAMES)}).model_dump(mode="json")
    masks.write_folder(tmp_path / "drawn" / "e1", ((index, evidence(index)) for index in range(NUM_FRAMES)))
    path = written(tmp_path, line("e0", tracks=[runs]), line("e1", mask_folder="drawn/e1"), line("e2"))
    row = scored(path, dataset)
    assert [row.samples[name].values["J&F"] for name in IDS] == [1.0, 1.0, 0.0]
    assert (row.metrics["J"].n_scored, row.metrics["J"].n_unparsed) == (2, 1)


@pytest.mark.parametrize("name", ["mine.jsonl", "mine.json", "mine.txt"])
def test_our_records_are_told_by_their_content_whatever_their_file_is_called(tmp_path, dataset, name):
    path = written(tmp_path, "", line("e0"), "  ", line("e1"), name=name)
    found = prediction_files.open_predictions(path, dataset)
    assert (found.form, found.num_records) == ("records", 2)
    assert scored(path, dataset).metrics["Acc"].mean == pytest.approx(2 / 3)


def test_a_last_line_without_an_end_counts_if_it_is_whole_and_is_named_if_not(tmp_path, dataset):
    path = written(tmp_path, line("e0"), line("e1"), end=b"")
    assert scored(path, dataset).counts.missing == 1
    path = written(tmp_path, line("e0"), line("e1")[:-5], end=b"")
    row = scored(path, dataset)
    assert (row.counts.missing, row.counts.malformed) == (2, 1)
    assert row.problems[0].startswith(f"{path}:2: ")


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_byte_order_mark_costs_no_record(tmp_path, dataset, end):
    path = tmp_path / "mine.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + end.join(line(name).encode() for name in IDS) + end)
    row = scored(path, dataset)
    assert (row.counts.ok, row.counts.malformed, row.metrics["Acc"].mean) == (3, 0, 1.0)
    first = next(jsonl.numbered_records(path, Prediction))
    assert jsonl.record_at(path, first.offset, Prediction) == first.record


UNUSABLE = [
    ({"answer": 2}, "Acc", "answer: 2 is no index, from 0, into 2 options"),
    ({"answer": -1}, "Acc", "answer: -1 is no index, from 0, into 2 options"),
    ({"mask_folder": "drwan/e1"}, "J", "masks: drwan/e1 is no folder beside the file"),
]


@pytest.mark.parametrize(("fields", "title", "reason"), UNUSABLE)
def test_what_a_record_names_and_nothing_has_is_named_and_unparsed(tmp_path, dataset, fields, title, reason):
    row = scored(
        written(tmp_path, line("e0", tracks=[]), line("e1", **{"tracks": None, **fields}), line("e2")), dataset
    )
    assert any(problem.endswith(f"key e1: {reason}") for problem in row.problems)
    assert row.samples["e1"].values[title] == 0.0
    assert row.metrics[title].n_unparsed == (1 if title == "Acc" else 2)
    assert row.counts.malformed == 1


MALFORMED = [
    (line("e1", spans=[[5.0, 3.0]]), "spans.0: Value error, a span needs finite 0 <= start <= end", "ok"),
    (line("e1", spans=[[-1.0, 3.0]]), "spans.0", "ok"),
    (line("e1", spans=[[0.0, 3.0]]).replace("3.0", "NaN"), "spans.0", "ok"),
    (line("e1", spans=[[0.0, 3.0]]).replace("3.0", "Infinity"), "spans.0", "ok"),
    (line("e1", spans=[[0.0, 3.0]]).replace("3.0", "1e999"), "spans.0", "ok"),
    (line("e1", answer="B"), "answer: Input should be a valid integer", "ok"),
    (line("e1", colour="red"), "colour: Extra inputs are not permitted", "ok"),
    (line("e1", status="failed"), "does not fit error None", "failed"),
    (line("e1", status="done"), "status: expected 'ok' or 'failed', got 'done'", "ok"),
    (line("e1", status="done", error="no memory"), "status: expected 'ok' or 'failed', got 'done'", "failed"),
    (line("e1", error="late"), "status 'ok' does not fit error 'late'", "ok"),
    (line("e1", version=2), "version: expected 1, got 2", "failed"),
    (line("e1", version="one"), "version: expected 1, got 'one'", "ok"),
    (line("e1", mask_folder="../gold"), "path leaves its folder", "ok"),
    (line("e1", mask_folder="/etc"), "path leaves its folder", "ok"),
    (line("e1", mask_folder="a", tracks=[]), "either as tracks or as a mask_folder", "ok"),
    (line("../e1"), "an id has 1-200 characters", "missing"),
    (line("/etc/passwd"), "an id has 1-200 characters", "missing"),
    (line("e1")[:-1], "Invalid JSON: EOF", "missing"),
    (line("e1").encode()[:-1] + b', "expressions": ["\xff\xfe"]}', "record: it is not UTF-8", "ok"),
    ("[" * 100_000, "Invalid JSON: recursion limit", "missing"),
    ("null", "record: Input should be an object", "missing"),
    ("\x00" * 1000, "Invalid JSON", "missing"),
    ("not json", "got 'not json'", "missing"),
]


@pytest.mark.parametrize(("bad", "reason", "status"), MALFORMED)
def test_a_malformed_record_is_named_by_file_line_and_field_and_nothing_else_is_lost(
    tmp_path, dataset, bad, reason, status
):
    path = written(tmp_path, line("e0"), bad, line("e2"))
    row = scored(path, dataset)
    assert [row.samples[name].status for name in IDS] == ["ok", status, "ok"]
    assert row.counts.malformed == 1
    assert row.problems[0].startswith(f"{path}:2: ")
    assert reason in row.problems[0]
    assert list(tmp_path.iterdir()) == [path]


FRAMES = {str(index): masks.encode(evidence(index)).model_dump() for index in range(NUM_FRAMES)}
RUNS = {
    str(index): {"size": SIZE, "counts": masks.run_lengths(masks.encode(evidence(index))).tolist()}
    for index in range(NUM_FRAMES)
}
TURN = {"asks": ["answer"], "prompt": "?", "reply": "A"}
SIDE = {
    "mask_size": "large",
    "num_frames": -3.5,
    "seconds": "long",
    "expressions": 3,
    "boxes": {"x": [1]},
    "time_choice": [],
}
UNREADABLE = [
    ({"answer": 1.5}, 1, {"Acc"}),
    ({"answer": {"letter": "A"}}, 1, {"Acc"}),
    ({"spans": [[0.0, 0.5], ["x", 1]]}, 1, {"mIoU"}),
    ({"spans": [[0.0, 0.5, 1.0]]}, 1, {"mIoU"}),
    ({"spans": {"start": 0.0}}, 1, {"mIoU"}),
    ({"tracks": [{"masks": {"x": FRAMES["0"]}}]}, 1, {"J&F"}),
    ({"tracks": [{"masks": {"0": {"size": SIZE, "counts": [1.5]}}}]}, 1, {"J&F"}),
    ({"tracks": [{"masks": {"0": {"size": SIZE, "counts": None}}}]}, 1, {"J&F"}),
    ({"tracks": [{}]}, 1, {"J&F"}),
    ({"tracks": [{"masks": {"0": {"size": SIZE, "counts": [5, 3]}}}]}, 1, {"J&F"}),
    ({"tracks": [{"masks": FRAMES, "score": "high", "label": 3, "colour": "red"}]}, 3, set()),
    ({"tracks": [{"masks": {key: mask | {"area": 80} for key, mask in FRAMES.items()}}]}, NUM_FRAMES, set()),
    ({"turns": [TURN | {"finish": "bored", "usage": {"seconds": None}, "letters": [1]}]}, 3, set()),
    ({"turns": [{"prompt": "?"}]}, 1, set()),
    ({"turns": "none"}, 1, set()),
    ({"written": {"answer": 3}}, 1, set()),
    (SIDE, len(SIDE), set()),
    ({"mask_frames": ["all"]}, 1, set()),
    ({"answer": "x", "spans": "y"}, 2, {"Acc", "mIoU"}),
]


@pytest.mark.parametrize(("fields", "num_problems", "lost"), UNREADABLE)
def test_a_field_that_cannot_be_read_costs_only_itself(tmp_path, dataset, fields, num_problems, lost):
    path = written(tmp_path, line("e0", **{"tracks": [{"masks": FRAMES}], **fields}))
    row = scored(path, dataset)
    values = row.samples["e0"].values
    assert {title for title in ("Acc", "mIoU", "J&F") if values[title] != 1.0} == lost
    assert row.samples["e0"].status == "ok"
    assert row.counts.malformed == num_problems
    assert all(row.metrics[title].n_unparsed == 1 for title in lost)


def test_run_lengths_are_read_as_numbers_and_as_text(tmp_path, dataset):
    path = written(tmp_path, line("e0", tracks=[{"masks": RUNS}]), line("e1", tracks=[{"masks": FRAMES}]))
    row = scored(path, dataset)
    assert [row.samples[name].values["J&F"] for name in ("e0", "e1")] == [1.0, 1.0]
    assert row.counts.malformed == 0


def test_a_number_is_an_id_and_a_later_whole_record_replaces_a_damaged_one(tmp_path, dataset):
    samples = tuple(sample.model_copy(update={"id": name}) for sample, name in zip(dataset.samples, "123", strict=True))
    data = Dataset("numbers", dataset.folder, samples, (), "0" * 64)
    one = json.loads(line("1")) | {"sample": 1}
    row = scored(written(tmp_path, json.dumps(one), line("2", answer="?"), line("2")), data)
    assert [each.values["Acc"] for each in row.samples.values()] == [1.0, 1.0, 0.0]
    assert (row.counts.malformed, row.counts.duplicates) == (1, 1)


def test_a_broken_record_does_not_replace_a_whole_one_before_it(tmp_path, dataset):
    row = scored(written(tmp_path, line("e0"), line("e0", answer="x")), dataset)
    assert (row.samples["e0"].status, row.counts.malformed) == ("ok", 1)


def test_of_several_records_of_a_sample_the_last_counts_and_unknown_ones_are_counted(tmp_path, dataset):
    row = scored(written(tmp_path, line("e0"), line("other"), line("e0", answer=1)), dataset)
    assert (row.samples["e0"].values["Acc"], row.counts.duplicates, row.counts.unknown) == (0.0, 1, 1)


def test_a_line_of_fifty_megabytes_costs_only_itself(tmp_path, dataset):
    row = scored(written(tmp_path, line("e0"), b"x" * 50_000_000, line("e2")), dataset)
    assert [row.samples[name].status for name in IDS] == ["ok", "missing", "ok"]
    assert len(row.problems[0]) < 1100


def test_a_line_that_is_too_long_costs_only_itself(tmp_path, dataset, monkeypatch):
    monkeypatch.setattr(prediction_files, "MAX_LINE_BYTES", 200)
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 200)
    row = scored(written(tmp_path, line("e0"), "x" * 1000, line("e2")), dataset)
    assert [row.samples[name].status for name in IDS] == ["ok", "missing", "ok"]
    assert row.problems == (f"{tmp_path / 'mine.jsonl'}:2: the line is longer than 200 bytes",)


def test_a_hundred_megabytes_of_nested_json_are_one_named_record(tmp_path, dataset):
    path = tmp_path / "nested.json"
    with path.open("wb") as file:
        file.write(b'{"e0": ' + b"[" * 50_000_000 + b"]" * 50_000_000)
        file.write(b', "e1": {"parsed_response": {"answer": "A"}}}')
    row = scored(path, dataset)
    assert [row.samples[name].status for name in IDS] == ["failed", "ok", "missing"]
    assert row.problems == (f"{path}:1: key 'e0': it is nested too deeply",)


@pytest.mark.parametrize(
    "track",
    [
        {"masks": {"0": {"size": [24, 32], "counts": "x?"}}},
        {"masks": {"0": {"size": [24, 32], "counts": "1000"}}},
        {"masks": {"0": {"size": [10**6, 10**6], "counts": "PoP"}}},
        {"masks": {"0": {"size": [-1, 32], "counts": "1"}}},
        {"masks": {"0": {"size": [24, 32], "counts": ""}}},
    ],
)
def test_run_lengths_that_do_not_fit_count_as_bad_masks(tmp_path, dataset, track):
    path = written(tmp_path, line("e0", tracks=[track]))
    row = scored(path, dataset)
    assert (row.samples["e0"].values["J"], row.samples["e0"].values["mIoU"]) == (0.0, 1.0)
    assert (row.counts.bad_masks, row.counts.malformed, row.metrics["J"].n_unparsed) == (1, 1, 1)
    assert row.problems[0].startswith(f"{path}: key e0: masks: frame 0: ")


def bomb() -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4) + name + content + zlib.crc32(name + content).to_bytes(4)

    header = (60_000).to_bytes(4) * 2 + bytes([8, 0, 0, 0, 0])
    data = zlib.compress(bytes(10**6))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_a_bomb_among_the_images_is_named_and_costs_only_its_masks(tmp_path, dataset):
    (tmp_path / "drawn").mkdir()
    (tmp_path / "drawn" / "00000.png").write_bytes(bomb())
    row = scored(written(tmp_path, line("e0", mask_folder="drawn")), dataset)
    assert (row.samples["e0"].values["J"], row.samples["e0"].values["mIoU"]) == (0.0, 1.0)
    assert "00000.png" in row.problems[0]
    assert "60000" in row.problems[0] or "too large" in row.problems[0]


HOSTILE: dict[str, bytes] = {
    "an id that climbs": line("../../evil").encode(),
    "an absolute id": line("/tmp/evil").encode(),
    "a folder of masks above": line("e0", mask_folder="../gold").encode(),
    "an absolute folder of masks": line("e0", mask_folder="/etc").encode(),
    "a folder of masks that is a link": line("e0", mask_folder="link/masks").encode(),
    "a bomb": line("e0", mask_folder="drawn").encode(),
    "wrong run lengths": line("e0", tracks=[{"masks": {"0": {"size": [24, 32], "counts": "1000"}}}]).encode(),
    "a run of 2^31 pixels": line("e0", tracks=[{"masks": {"0": {"size": [24, 32], "counts": "ooooooo1"}}}]).encode(),
    "times that are none": line("e0", spans=[[0.0, 3.0]]).replace("3.0", "NaN").encode(),
    "times to infinity": line("e0", spans=[[0.0, 3.0]]).replace("3.0", "Infinity").encode(),
    "a time below 0": line("e0", spans=[[-3.0, 3.0]]).encode(),
    "a time that runs backwards": line("e0", spans=[[5.0, 3.0]]).encode(),
    "not UTF-8": b'{"sample": "e0", "status": "failed", "error": "\xff\xfe"}',
    "a long line": b'{"sample": "e0", "status": "' + b"x" * 5_000_000,
    "an original's ids that climb": b'{"../../evil": {"parsed_response": {"answer": "A", "mask_folder": "../.."}}}',
    "an original's folder of masks": b'{"e0": {"parsed_response": {"answer": "A"}, "mask_folder": "/etc"}}',
    "an original's times": b'{"e0": {"parsed_response": {"answer": "A", "segments": [[NaN, 1e999], [-5, -9]]}}}',
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_is_counted_and_nothing_is_written_but_beside_it(tmp_path, dataset, content):
    """The folder of the file may get scores.json and the export that is asked for; no other place changes."""
    inside, outside = tmp_path / "mine", tmp_path / "outside"
    (outside / "masks").mkdir(parents=True)
    (outside / "masks" / "00000.png").write_bytes(b"untouched")
    inside.mkdir()
    (inside / "link").symlink_to(outside)
    (inside / "drawn").mkdir()
    (inside / "drawn" / "00000.png").write_bytes(bomb())
    is_original = content.startswith(b'{"e0": {"p') or content.startswith(b'{"../')
    path = inside / ("p.json" if is_original else "p.jsonl")
    path.write_bytes(content + b"\n")
    before = tree(tmp_path)
    assert main(["score", str(path), "--data", str(dataset.folder), "--baselines", "none"]) == 0
    counts = json.loads((inside / "p.scores.json").read_text())[0]["counts"]
    assert counts["malformed"] + counts["unknown"] == 1
    assert main(["export", str(path), "--data", str(dataset.folder), "--out", str(inside / "out")]) == 0
    after = tree(tmp_path)
    assert {name: after[name] for name in before} == before
    assert all(name.startswith(("mine/p.scores.json", "mine/out")) for name in after.keys() - before.keys())
    exported = [name for name in after if name.startswith("mine/out/")]
    assert not [name for name in exported if "evil" in name]


def tree(folder):
    """Every file below a folder, links not followed."""
    return {
        str(path.relative_to(folder)): b"" if path.is_symlink() or path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize("content", [b"", b"\n\n", b"{}"])
def test_a_file_without_a_record_scores_nothing_and_says_so(tmp_path, dataset, content):
    path = tmp_path / "empty.json"
    path.write_bytes(content)
    row = scored(path, dataset)
    assert (row.counts.missing, row.counts.malformed) == (3, 0)
    assert "0 records" in row.source


PROGRAM = """
import resource, sys
from pathlib import Path
from evqa.runs import prediction_files
from evqa.datasets import load
found = prediction_files.open_predictions(Path(sys.argv[1]), load(sys.argv[2]))
print(found.num_records, found.unknown, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def megabytes(path: Path, data: Path) -> tuple[int, int, int]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", PROGRAM, str(path), str(data)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    records, unknown, memory = map(int, done.stdout.split())
    return records, unknown, memory


@pytest.mark.parametrize("name", ["many.jsonl", "many.json"])
def test_memory_does_not_grow_with_the_number_of_records(tmp_path, dataset, name):
    few, many = tmp_path / f"few_{name}", tmp_path / name
    entry = {"parsed_response": {"answer": "A", "segments": [[0.0, 1.0]], "referring_expressions": ["x" * 1000]}}
    for path, count in ((few, 10), (many, 20_000)):
        with path.open("w") as file:
            if name.endswith("jsonl"):
                file.writelines(line(f"other{number}", expressions=["x" * 1000]) + "\n" for number in range(count))
            else:
                body = json.dumps(entry)
                file.write("{" + ",\n".join(f'"other{number}": {body}' for number in range(count)) + "}")
    assert many.stat().st_size > 20e6
    base, grown = megabytes(few, dataset.folder), megabytes(many, dataset.folder)
    assert grown[:2] == (20_000, 20_000)
    assert grown[2] - base[2] < 12


# What comes out


def test_files_that_differ_in_their_ending_alone_each_keep_their_scores(tmp_path, dataset):
    """p.json is often the export of p.jsonl."""
    ours = written(tmp_path, line("e0"))
    theirs = tmp_path / "mine.json"
    theirs.write_text('{"e0": {"answer": "b"}}')
    for path in (ours, theirs):
        assert main(["score", str(path), "--data", str(dataset.folder), "--baselines", "none"]) == 0
        row = json.loads((tmp_path / f"{path.name}.scores.json").read_text())[0]
        assert row["source"].startswith(f"{path}: ")


def test_runs_of_one_name_are_told_apart_in_a_report(tmp_path, dataset):
    """Equal names below equally named folders too, and files that differ in their ending alone."""
    runs: list[str] = []
    for folder in ("a/set", "b/set"):
        (tmp_path / folder).mkdir(parents=True)
        runs.append(str(written(tmp_path / folder, line("e0"))))
    other = tmp_path / "b/set/mine.json"
    other.write_text('{"e0": {"answer": "b"}}')
    rest = ["--data", str(dataset.folder), "--out", str(tmp_path / "out")]
    assert main(["report", *runs, str(other), *rest]) == 0
    tables = (tmp_path / "out/report.md").read_text()
    assert all(f"| {name} |" in tables for name in (*runs, other))
    assert main(["report", *runs, runs[0], *rest]) == 2


def test_scores_are_written_in_a_schema_that_the_command_prints(tmp_path, dataset, capsys):
    path = written(tmp_path, line("e0"), line("e1", answer=5), "x")
    assert main(["score", str(path), "--data", str(dataset.folder), "--preset", "strict", "--baselines", "none"]) == 0
    text = capsys.readouterr().out
    assert f"{path}: our records, one a line, 3 records" in text
    assert "2 records or fields that could not be read" in text
    (row,) = json.loads((tmp_path / "mine.scores.json").read_text())
    assert (row["version"], row["counts"]["malformed"]) == (2, 2)
    assert main(["schema", "scores"]) == 0
    described = json.loads(capsys.readouterr().out)["$defs"]["Scores"]
    assert set(row) | {"protocol"} == set(described["properties"]), "a run about episodes states its protocol"
    for name, kind in (("sample", Sample), ("prediction", Prediction), ("run", schema.Run)):
        assert main(["schema", name]) == 0
        assert json.loads(capsys.readouterr().out)["properties"].keys() == {
            field.alias or name for name, field in kind.model_fields.items()
        }


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_each_sample_is_a_row_of_percent(tmp_path, dataset, suffix):
    path, table = written(tmp_path, line("e0"), line("e1", spans=None)), tmp_path / f"rows.{suffix}"
    assert main(["score", str(path), "--data", str(dataset.folder), "--samples", str(table)]) == 0
    if suffix == "csv":
        with table.open(newline="") as file:
            rows = list(csv.DictReader(file))
        values = [(row["preset"], row["sample"], row["Acc"], row["mIoU"]) for row in rows]
    else:
        rows = [json.loads(text) for text in table.read_text().splitlines()]
        values = [(row["preset"], row["sample"], str(row["Acc"]), str(row["mIoU"])) for row in rows]
    assert values == [
        (preset, *rest)
        for preset in ("strict", "st-evidence")
        for rest in (("e0", "100.0", "100.0"), ("e1", "100.0", "0.0"), ("e2", "0.0", "0.0"))
    ]
    assert [(row["status"], row["unit"]) for row in rows] == [(s, "percent") for s in ("ok", "ok", "missing")] * 2
    assert main(["score", str(path), "--data", str(dataset.folder), "--samples", str(tmp_path / "rows.xlsx")]) == 2


def test_a_table_of_samples_is_never_written_over_the_predictions(tmp_path, dataset, capsys):
    path = written(tmp_path, line("e0"))
    before = path.read_bytes()
    assert main(["score", str(path), "--data", str(dataset.folder), "--samples", str(tmp_path / "." / path.name)]) == 2
    assert "would be written over" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert not path.with_name("mine.scores.json").exists()
    table = tmp_path / "new" / "rows.csv"
    assert main(["score", str(path), "--data", str(dataset.folder), "--samples", str(table)]) == 0
    assert table.is_file()


def test_the_result_row_is_markdown_or_latex_where_asked(tmp_path, dataset, capsys):
    path = written(tmp_path, *[line(name) for name in IDS], name="my_model.jsonl")
    arguments = [
        "score",
        str(path),
        "--data",
        str(dataset.folder),
        "--preset",
        "strict",
        "--baselines",
        "none",
        "--format",
    ]
    assert main([*arguments, "markdown"]) == 0
    assert "| my_model | 100.0 [100.0, 100.0] |" in capsys.readouterr().out
    assert main([*arguments, "latex"]) == 0
    text = capsys.readouterr().out
    assert r"my\_model & 100.0 [100.0, 100.0] & " in text
    assert r"J\&F" in text
    lines = re.sub(r"\\begin\{tabular\}.*?\\end\{tabular\}", "", text, flags=re.DOTALL).splitlines()
    assert [text for text in lines if text.strip() and not text.startswith("% ")] == []
    tables = 4  # scores, every mean, the joint grid, question types; counts are words where all were scored
    assert text.count(r"\begin{tabular}{l") == text.count(r"\end{tabular}") == tables


def test_the_help_of_scoring_teaches_what_can_be_scored_and_how_to_read_it(capsys):
    with pytest.raises(SystemExit):
        main(["score", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for phrase in ("original scripts", "mask_folder", "Acc: accuracy", "scores 0", "--format latex"):
        assert phrase in text
