import hashlib
import json
import re
from pathlib import Path

import pytest

from evqa import datasets
from evqa.datasets.formats import reader_of
from evqa.datasets.registry import DATASETS
from evqa.files.jsonl import BadLine
from evqa.schema import Prediction, ToolCall, ToolResult, Turn
from evqa.scoring.engine import System, score


def line(name, **fields):
    return json.dumps({"id": name, "video_id": "v", "video": "videos/v.mp4", "question": "What?"} | fields) + "\n"


def folder_with(path, *lines):
    path.mkdir(parents=True, exist_ok=True)
    (path / "samples.jsonl").write_text("".join(lines))
    return path


def test_a_folder_is_loaded_with_absolute_paths(tmp_path):
    folder = folder_with(tmp_path / "set", line("a", masks="masks/a", objects="objects/v"), line("b"))
    (folder / "masks" / "a").mkdir(parents=True)
    (folder / "objects" / "v").mkdir(parents=True)
    data = datasets.load(str(folder))
    first, second = data.samples
    assert (first.id, second.id) == ("a", "b")
    assert first.video == folder / "videos" / "v.mp4"
    assert first.masks == folder / "masks" / "a"
    assert first.object_masks == folder / "objects" / "v"
    assert second.masks is None
    assert (data.name, data.rejected) == (str(folder), ())
    assert data.sha256 == hashlib.sha256((folder / "samples.jsonl").read_bytes()).hexdigest()


def test_a_missing_video_does_not_stop_loading(tmp_path):
    data = datasets.load(str(folder_with(tmp_path, line("a"))))
    assert not data.samples[0].video.exists()


@pytest.mark.parametrize("frames", [[], [-1, 0], [3, 0], [0, 0]])
def test_frames_that_are_no_ascending_indices_make_no_sample(tmp_path, frames):
    data = datasets.load(str(folder_with(tmp_path, line("a"), line("b", frames=frames))))
    assert [sample.id for sample in data.samples] == ["a"]
    (bad,) = data.rejected
    assert "expected ascending frame indices" in bad.reason


@pytest.mark.parametrize("name", DATASETS)
def test_every_known_name_is_found_below_the_data_root(tmp_path, monkeypatch, name):
    monkeypatch.setenv("EVQA_DATA", str(tmp_path))
    with pytest.raises(
        ValueError,
        match=r"has no [\w+]+\.jsonl: run (`bash scripts/download\.sh [\w+-]+`, then )?`python data/\w+/prepare\.py",
    ):
        datasets.load(name)
    row = DATASETS[name]
    folder = folder_with(tmp_path / row.folder, line("a"))
    (folder / "samples.jsonl").rename(folder / row.file)
    assert datasets.load(name).name == name
    by_folder = datasets.load(str(folder if row.file == "samples.jsonl" else folder / row.file))
    assert (by_folder.name, by_folder.sha256) == (name, datasets.load(name).sha256)


def test_the_data_root_is_the_current_folders_data(tmp_path, monkeypatch):
    monkeypatch.delenv("EVQA_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    folder_with(tmp_path / "data" / "shapes" / "val", line("a"))
    assert datasets.load("shapes-val").samples[0].video == tmp_path / "data/shapes/val/videos/v.mp4"


def test_each_row_has_a_prepare_script_and_says_its_licence():
    root = Path(__file__).resolve().parents[2]
    for row in DATASETS.values():
        assert (root / row.prepare.split()[1]).is_file()
        assert row.description
        assert row.licence
        assert row.source


@pytest.mark.parametrize("name", DATASETS)
def test_each_row_has_a_reader_that_names_what_a_folder_lacks(tmp_path, name):
    reader = reader_of(DATASETS[name].format)
    assert reader.__module__.startswith("evqa.datasets.formats.")
    with pytest.raises(ValueError, match=re.escape(str(tmp_path))):
        list(reader(tmp_path, []))


def test_only_rows_that_share_a_folder_have_a_file_of_their_own():
    rows = [(row.folder, row.file) for row in DATASETS.values()]
    assert len(set(rows)) == len(rows)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown data set 'st-evidence'.*shapes-train.*st-evidence-gen"):
        datasets.load("st-evidence")


def test_lines_that_cannot_be_used_are_counted_with_their_number(tmp_path):
    folder = folder_with(
        tmp_path,
        line("a"),
        "\n",
        "{not json\n",
        line("a"),
        line("b", video="../v.mp4"),
        line("c", masks="masks/c"),
        line("d", unknown=1),
        line("e")[:-5],
    )
    data = datasets.load(str(folder))
    assert [sample.id for sample in data.samples] == ["a"]
    assert [bad.line for bad in data.rejected] == [3, 4, 5, 6, 7, 8]
    reasons = [bad.reason for bad in data.rejected]
    for reason, word in zip(
        reasons,
        ["JSON", "duplicate id: a is on line 1", "path leaves", "missing", "unknown", "incomplete"],
        strict=True,
    ):
        assert word in reason
    assert all(isinstance(bad, BadLine) for bad in data.rejected)


def test_a_file_without_any_usable_sample_says_why(tmp_path):
    with pytest.raises(ValueError, match=r"no usable sample \(line 1: path leaves its folder"):
        datasets.load(str(folder_with(tmp_path, line("a", video="/etc/passwd"))))
    with pytest.raises(ValueError, match=r"no usable sample \(the file is empty\)"):
        datasets.load(str(folder_with(tmp_path, "")))


def test_a_link_inside_the_folder_is_followed_and_a_linked_folder_is_one(tmp_path):
    folder = folder_with(tmp_path / "real", line("a", video="link.mp4"))
    (folder / "v.mp4").write_bytes(b"")
    (folder / "link.mp4").symlink_to("v.mp4")
    (tmp_path / "linked").symlink_to(folder)
    assert datasets.load(str(tmp_path / "linked")).samples[0].video.resolve() == folder / "v.mp4"


def test_a_large_file_of_samples_is_read_when_it_is_asked_for_and_scores_the_same(tmp_path, monkeypatch):
    folder = folder_with(
        tmp_path,
        *(line(f"s{n}", options=["x", "y"], answer=n % 2, question_type="ab"[n % 2]) for n in range(20)),
        line("s3"),
        line("away", masks="../out"),
    )
    small = datasets.load(str(folder))
    monkeypatch.setattr(datasets, "LARGE", 0)
    large = datasets.load(str(folder))
    assert isinstance(large.samples, datasets.LazyDataset)
    assert list(large.samples) == list(small.samples)
    assert large.samples[7] == small.samples[7]
    assert large.samples[2:4] == list(small.samples[2:4])
    assert (large.rejected, large.sha256) == (small.rejected, small.sha256)
    predictions = [Prediction(sample_id=f"s{n}", status="ok", answer=0) for n in range(15)]
    one, other = (score(data, [System("run", predictions)], ["strict"])[0] for data in (small, large))
    assert one == other
    assert one.metrics["Acc"].mean == 8 / 20


def test_further_videos_subtitles_and_clips_are_absolute_and_stay_in_the_folder(tmp_path):
    def clip(path):
        return [{"id": "c1", "path": path, "start": 0.0, "duration": 2.0}]

    folder = folder_with(
        tmp_path / "set",
        line("a", videos=["w.mp4"], subtitles="s.srt", clips=clip("clips/1.mp4")),
        line("b", videos=["../w.mp4"]),
        line("c", subtitles="../s.srt"),
        line("d", clips=clip("../1.mp4")),
    )
    (folder / "s.srt").write_text("")
    (tmp_path / "s.srt").write_text("")
    data = datasets.load(str(folder))
    (sample,) = data.samples
    assert (sample.videos, sample.subtitles) == ((folder / "w.mp4",), folder / "s.srt")
    assert [part.path for part in sample.clips] == [folder / "clips" / "1.mp4"]
    assert [number for number, _ in data.rejected] == [2, 3, 4]
    (lazy,) = datasets.open_lazy(str(folder), lambda sample: None)
    assert lazy == sample


def test_fields_of_agents_are_written_only_where_they_are_set():
    turn = Turn(answer_fields=(), prompt="?", reply="A")
    written = Prediction(sample_id="a", status="ok", turns=(turn,)).model_dump()
    assert written.keys().isdisjoint({"stop", "stop_note", "verdicts", "span_scores", "clips"})
    assert written["turns"][0].keys().isdisjoint({"agent", "model", "calls", "results", "frames"})
    call = ToolCall(id="1", name="zoom", arguments="{}")
    spoken = turn.replace(agent="vision", calls=(call,), results=(ToolResult(call="1", ok=True, text="done"),))
    episode = Prediction(sample_id="a", status="ok", turns=(spoken,), stop="answered")
    assert Prediction.model_validate_json(episode.model_dump_json()) == episode
