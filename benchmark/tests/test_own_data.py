"""Questions of a user in all forms of the format: reading, refusals, check and preview, prediction without code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from evqa import datasets, masks, media
from evqa.__main__ import main
from evqa.datasets.formats import own_data
from evqa.schema import Span
from evqa.tasks import registry as tasks

SIZE, NUM_FRAMES, FPS = (32, 48), 12, 6.0


def mask_at(left: int) -> np.ndarray:
    mask = np.zeros(SIZE, np.bool_)
    mask[8:20, left : left + 10] = True
    return mask


RLE = masks.encode(mask_at(4)).model_dump()
POLYGON = [[4, 8, 14, 8, 14, 20, 4, 20]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "mine"
    (data / "videos").mkdir(parents=True)
    frames = np.full((NUM_FRAMES, *SIZE, 3), 90, np.uint8)
    media.write_video(data / "videos" / "a.mp4", iter(frames), FPS)
    return data


def write(folder: Path, *rows: object, name: str = "questions.jsonl") -> Path:
    text = "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def question(**fields: object) -> dict[str, object]:
    return {"video": "a.mp4", "question": "What falls?", "options": ["a cup", "a plate"], "answer": "B", **fields}


def only(folder: Path):
    dataset = datasets.load(str(folder))
    assert not dataset.rejected, dataset.rejected
    (sample,) = dataset.samples
    return sample


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"answer": 1, "options": ("a cup", "a plate"), "spans": None}),
        ({"answer": "A CUP"}, {"answer": 0}),
        ({"answer": 1}, {"answer": 1}),
        ({"answer": "(b)"}, {"answer": 1}),
        ({"options": {"A": "2", "B": "0"}, "answer": "0"}, {"answer": 1}),
        ({"options": ["4", "7"], "answer": "1"}, {"answer": 1}),
        ({"options": None, "answer": "a cup"}, {"answer": None, "response": "a cup", "options": ()}),
        ({"spans": [[0.5, 1]]}, {"spans": (Span(0.5, 1.0),)}),
        ({"spans": [0.5, 1]}, {"spans": (Span(0.5, 1.0),)}),
        ({"spans": []}, {"spans": ()}),
        ({"spans": [["0:00.5", "0:01"]]}, {"spans": (Span(0.5, 1.0),)}),
        ({"type": "what", "level": 3}, {"question_type": "what", "metadata": {"level": "3"}}),
        ({"boxes": {"3": [1, 2, 3, 4]}}, {"boxes": {3: (1, 2, 3, 4)}}),
    ],
)
def test_fields_of_a_row(folder: Path, fields: dict[str, object], expected: dict[str, object]) -> None:
    sample = only(write(folder, question(**fields)))
    assert {name: getattr(sample, name) for name in expected} == expected
    assert (sample.id, sample.video) == ("q00001", folder.resolve() / "videos" / "a.mp4")


@pytest.mark.parametrize(
    "content",
    [
        "id,video,question,option_a,option_b,answer,start,end\nx,a.mp4,What falls?,a cup,a plate,B,0:00.5,1\n",
        'id,video,question,options,answer,spans\nx,a.mp4,What falls?,a cup | a plate,a plate,"0.5-1"\n',
        'id,video,question,options,answer,spans\nx,a.mp4,What falls?,"[""a cup"", ""a plate""]",1,"[[0.5, 1]]"\n',
    ],
)
def test_tables(folder: Path, content: str) -> None:
    (folder / "questions.csv").write_text(content, encoding="utf-8")
    sample = only(folder)
    assert (sample.id, sample.options, sample.answer, sample.spans) == ("x", ("a cup", "a plate"), 1, (Span(0.5, 1),))


@pytest.mark.parametrize(
    "content",
    [
        {"3": RLE},
        {"objects": [{"label": "the cup", "frames": {"3": RLE}}]},
        {"3": POLYGON},
        {"3": {"exterior": [[4, 8], [14, 8], [14, 20], [4, 20]], "holes": []}},
        {
            "images": [{"id": 7, "file_name": "a_00003.jpg", "height": 32, "width": 48}],
            "annotations": [{"id": 1, "image_id": 7, "category_id": 2, "segmentation": POLYGON}],
            "categories": [{"id": 2, "name": "the cup"}],
        },
    ],
)
@pytest.mark.parametrize("place", ["row", "file", "beside"])
def test_masks_in_every_form(folder: Path, content: object, place: str) -> None:
    fields: dict[str, object] = {"masks": content}
    if place != "row":
        (folder / "masks").mkdir()
        (folder / "masks" / "q00001.json").write_text(json.dumps(content), encoding="utf-8")
        fields = {"masks": "masks/q00001.json"} if place == "file" else {}
    sample = only(write(folder, question(**fields)))
    assert sample.tracks is not None
    (track,) = sample.tracks
    assert {index: masks.decode(mask).tolist() for index, mask in track.masks.items()} == {3: mask_at(4).tolist()}


HOSTILE = [
    ("{broken", "no JSON object"),
    ("[1, 2]", "no JSON object"),
    (question(video="../secret.mp4"), "leaves its folder"),
    (question(video="/etc/passwd"), "leaves its folder"),
    (question(masks="../masks"), "leaves its folder"),
    (question(video=["a.mp4"]), "video is no text"),
    (question(question=" "), "question is no text"),
    (question(options=["a cup"]), "expected 2 to 26 options"),
    (question(options=["a cup", {"b": 1}]), "expected 2 to 26 options"),
    (question(options={"A": "x", "C": "y"}), "without a gap"),
    (question(answer="Z"), "below the number of options"),
    (question(answer="a bowl"), "text, letter or index"),
    (question(answer=True), "no whole number"),
    (question(spans=[[1, 0.5]]), "0 <= start <= end"),
    (question(spans=[["x", 1]]), "number of seconds"),
    (question(spans=[[1, 2, 3]]), "a span is"),
    (question(spans="1e999-2"), "number of seconds"),
    (question(spans=[[50, 60]]), "outside the clip"),
    (question(start=1), "start and end"),
    (question(masks={"3": {"size": [10, 10], "counts": "d3"}}), "as the video"),
    (question(masks={"30": RLE}), "30: the video has 12 frames"),
    (question(masks={"3": {"size": [32, 48], "counts": "zzz"}}), "run lengths"),
    (question(masks={"3": "x"}), "mask"),
    (question(masks="masks/none"), "masks is missing"),
    (question(boxes={"3": [5, 5, 1, 1]}), "x0 < x1"),
    (question(level=[1]), "an attribute"),
    (question(id="x" * 300), "1-200 characters"),
]


@pytest.mark.parametrize(("row", "reason"), HOSTILE, ids=[reason for _, reason in HOSTILE])
def test_a_row_that_cannot_be_used_is_reported(folder: Path, row: object, reason: str) -> None:
    dataset = datasets.load(str(write(folder, row, question(id="good"))))
    assert [sample.id for sample in dataset.samples] == ["good"]
    (bad,) = dataset.rejected
    assert bad.line == 1
    assert reason in bad.reason


def test_a_file_by_its_path_and_records_by_theirs(folder: Path) -> None:
    write(folder, question(), question(), name="other.jsonl")
    assert len(datasets.load(str(folder / "other.jsonl")).samples) == 2
    (folder / "list.json").write_text(json.dumps([question(id="x"), question(id="x")]), encoding="utf-8")
    dataset = datasets.load(str(folder / "list.json"))
    assert [sample.id for sample in dataset.samples] == ["x"]
    assert "duplicate id" in dataset.rejected[0].reason
    with pytest.raises(ValueError, match=r"questions.jsonl"):
        datasets.load(str(folder))
    assert own_data.file_in(folder) is None


def test_questions_become_a_task_without_code(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "masks" / "m").mkdir(parents=True)
    masks.write_folder(folder / "masks" / "m", [(3, mask_at(4))])
    write(folder, question(id="m", spans=[[0.5, 1.0]]), question(id="n"), "{broken")
    replies = tmp_path / "replies.json"
    track = {"masks": {"3": RLE}}
    text = "Answer: B. Temporal Evidence: [[0.5, 1.0]]. Spatial Evidence: <|seg|>."
    replies.write_text(json.dumps({"*": {"text": text, "tracks": [track], "num_frames": NUM_FRAMES}}), encoding="utf-8")
    run = tmp_path / "run"
    assert main(["predict", str(folder), str(replies), "--out", str(run)]) == 0
    assert main(["score", str(run), "--baselines", "none"]) == 0
    scores = json.loads((run / "scores.json").read_text(encoding="utf-8"))[0]
    assert scores["metrics"]["joint"]["mean"] == 1
    assert scores["metrics"]["Acc"]["n_total"] == 2
    assert tasks.task_of(datasets.load(str(folder))).method == "single-turn"
    write(folder, question(id="m", spans=[[0.5, 1.0]]), question(id="n", answer="A"))
    capsys.readouterr()
    assert main(["score", str(run)]) == 2
    assert "another version" in capsys.readouterr().err


def test_check_reports_and_shows_what_it_finds(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, size in (("small", (8, 8)), ("empty", SIZE)):
        (folder / "masks" / name).mkdir(parents=True)
        masks.write_folder(folder / "masks" / name, [(20, np.full(size, name == "small", np.bool_))])
    write(
        folder,
        question(id="good", spans=[[0.5, 1.0]], masks={"3": RLE}, question="<script>alert(1)</script>"),
        question(id="small", question="Small?"),
        question(id="empty", question="Empty?", answer=None),
        question(id="gone", video="gone.mp4"),
        question(id="twice", options=["a cup", "a cup"], answer=0),
        question(id="again"),
        question(id="bad", answer="nothing"),
    )
    out = tmp_path / "checked"
    assert main(["check", str(folder), "--out", str(out), "--write-samples", str(folder / "train.jsonl")]) == 1
    printed = capsys.readouterr().out
    for words in (
        *("samples: 6", "videos: 2", "invalid rows: 1", "right options: A 1, B 4", "with masks: 3"),
        *("line 7: answer is the text", "small: masks: expected 32 x 48", "small: masks: frame 20: the video has 12"),
        *("empty: masks: no mask has a pixel", "empty: the right option is not stated", "gone: the video is missing"),
        *("twice: two options have the same text", "again: the same question about the same video as twice"),
    ):
        assert words in printed, words
    page = (out / "preview.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "data:image/jpeg;base64," in page
    assert "0.5 to 1 s" in page
    rejected = [json.loads(line) for line in (out / "rejected.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rejected) == printed.count("\n  ")
    again = datasets.load(str(folder / "train.jsonl"))
    assert [sample.id for sample in again.samples] == ["good", "small", "empty", "gone", "twice", "again"]
    assert again.samples == datasets.load(str(folder / "questions.jsonl")).samples


def test_check_finds_nothing_in_a_clean_data_set(folder: Path, tmp_path: Path) -> None:
    write(folder, question(spans=[[0.5, 1.0]]))
    assert main(["check", str(folder), "--out", str(tmp_path / "out"), "--preview", "0"]) == 0
    assert not (tmp_path / "out" / "preview.html").exists()
