"""Scripts of benchmark/perf that compare and measure revisions: what they count as a difference, a cycle, a repeat."""

import ast
import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

PERF = Path(__file__).resolve().parents[1] / "perf"


@pytest.fixture
def compare_revisions(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(PERF)
    return importlib.import_module("compare_revisions")


@pytest.fixture
def code_metrics(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(PERF)
    return importlib.import_module("code_metrics")


def differences(module: ModuleType, before: object, after: object) -> list[str]:
    comparison = module.Comparison("x")
    comparison.compare("", before, after)
    return comparison.differences


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (0.1 + 0.2, 0.3),
        (1, 1.0),
        (0, False),
        ([1, 2], [1]),
        ({"a": 1}, {}),
        ({}, {"a": 1}),
        ({"a": None}, {}),
        ({"source": {"mean": 1}}, {"source": {"mean": 2}}),
    ],
)
def test_unequal_values_differ_and_equal_ones_do_not(compare_revisions: ModuleType, before: object, after: object):
    assert len(differences(compare_revisions, before, after)) == 1
    assert differences(compare_revisions, before, before) == []


def test_times_and_sentences_are_not_compared(compare_revisions: ModuleType):
    before = {"seconds": 1, "source": "/a", "notes": ["x"], "mean": 0.5}
    assert differences(compare_revisions, before, {"seconds": 2, "source": "/b", "notes": ["y"], "mean": 0.5}) == []


def test_a_renamed_key_is_used_only_where_the_old_one_is_gone(
    compare_revisions: ModuleType, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(compare_revisions.RENAMED_KEYS, "asks", "fields")
    monkeypatch.setattr(compare_revisions, "USED", set())
    assert differences(compare_revisions, {"asks": 1}, {"asks": 1}) == []
    assert not compare_revisions.USED
    assert differences(compare_revisions, {"asks": 1}, {"fields": 1}) == []
    assert list(compare_revisions.USED) == ["asks -> fields"]
    assert len(differences(compare_revisions, {"asks": 1}, {"fields": 2})) == 1
    assert len(differences(compare_revisions, {"asks": 1}, {"other": 1})) == 2


def test_a_missing_file_and_a_changed_byte_differ(compare_revisions: ModuleType, tmp_path: Path):
    for name, content in (("before", b"1"), ("after", b"2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mask.png").write_bytes(content)
        (tmp_path / name / "x.json").write_text(json.dumps({"b": 1, "a": 2}, sort_keys=name == "after"))
    (tmp_path / "before" / "y.txt").touch()
    comparison = compare_revisions.Comparison("x")
    comparison.compare_folder(tmp_path / "before", tmp_path / "after")
    assert [text.split(":")[0] for text in comparison.differences] == ["mask.png", "y.txt"]


def sources(module: ModuleType, **texts: str) -> list[object]:
    return [module.Source(name.replace("__", "."), False, text, ast.parse(text)) for name, text in texts.items()]


def test_cycles_are_those_of_imports_that_run_while_a_module_is_loaded(code_metrics: ModuleType):
    parsed = sources(
        code_metrics,
        p__a="from p import b",
        p__b="try:\n    import p.c\nexcept ImportError:\n    pass",
        p__c="from .a import x",
        p__d="from p.e import x",
        p__e="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import p.d\ndef f():\n    import p.d",
    )
    assert code_metrics.import_cycles(parsed) == [["p.a", "p.b", "p.c"]]


def test_a_repeated_block_is_found_under_other_names_and_reported_once(code_metrics: ModuleType):
    body = "\n".join(f"    {{v}}{place} = {{v}}.step_{place}({place})" for place in range(8))
    one, other = (f"def {name}({name}):\n" + body.format(v=name) for name in ("first", "second"))
    assert code_metrics.repeated_blocks(sources(code_metrics, a=one, b=other)) == ["b:1 as a:1"]
    changed = other.replace("step_3", "halt_3")
    assert code_metrics.repeated_blocks(sources(code_metrics, a=one, b=changed)) == []


@pytest.fixture
def frame_index(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(PERF)
    return importlib.import_module("frame_index")


def cells(output: str, row: int = -1) -> list[float]:
    """Numbers of a row of the table that a script printed."""
    return [float(cell) for cell in output.strip().splitlines()[row].strip("| ").split("|")]


def test_a_repeated_clip_is_one_video_with_ascending_times(frame_index: ModuleType, tmp_path: Path):
    video = frame_index.media.probe_video(frame_index.write_long_video(tmp_path / "long.mp4", 25.0))
    assert video.duration == pytest.approx(30.0, abs=0.2)
    assert video.num_frames == 360
    first, again = frame_index.media.load_frames(video, [5, 125])
    assert (first == again).all()


def test_construction_of_an_index_costs_little_more_than_its_frames(
    frame_index: ModuleType, capsys: pytest.CaptureFixture[str]
):
    frame_index.construction(seconds=30.0, fps=6.0, encoder="mean", rounds=3)
    plain, built, ratio = cells(capsys.readouterr().out)
    assert ratio == pytest.approx(built / plain, abs=0.05)
    assert ratio < 1.5  # 1.15 on a quiet machine


def test_search_costs_little_more_than_a_product(frame_index: ModuleType, capsys: pytest.CaptureFixture[str]):
    frame_index.search(counts=(4000,), rounds=20)
    assert cells(capsys.readouterr().out)[-1] < 2.0  # 1.2 on a quiet machine


def test_opening_does_not_read_the_embeddings(frame_index: ModuleType, capsys: pytest.CaptureFixture[str]):
    frame_index.opening(counts=(4000,))
    _, size, _, read, memory = cells(capsys.readouterr().out)
    assert size > 17
    assert read < 0.5
    assert memory < 2
