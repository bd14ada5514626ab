"""Scores of a small data set on disk: three videos of frames, masks as files, four questions."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from version_1 import as_version_1

from evqa import masks
from evqa.datasets import Dataset
from evqa.metrics.presets import PRESETS
from evqa.metrics.temporal import tmean
from evqa.schema import RLE, Prediction, Sample, Span, Track
from evqa.scoring import baselines
from evqa.scoring.cases import compare_samples
from evqa.scoring.engine import UNRECORDED, System, score
from evqa.scoring.results import EARLIER_NAMES, Scores, read_scores, write_scores

SIZE = (24, 32)
NUM_FRAMES = 12
"""At 6 frames a second: videos of 2 seconds."""


def evidence(index: int) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=bool)
    mask[4:12, 2 + index : 10 + index] = True
    return mask


def labels(index: int) -> np.ndarray:
    """The evidence is object 1; object 2 stands still and is as large."""
    image = evidence(index).astype(np.uint8)
    image[14:22, 2:10] = 2
    return image


def make_video(folder: Path, name: str, held: range) -> None:
    for kind in ("videos", "masks", "objects"):
        (folder / kind / name).mkdir(parents=True)
    for index in range(NUM_FRAMES):
        Image.fromarray(np.full((*SIZE, 3), 20 * index, np.uint8)).save(folder / f"videos/{name}/{index:05d}.png")
        Image.fromarray(labels(index)).save(folder / f"objects/{name}/{index:05d}.png")
    masks.write_folder(folder / "masks" / name, ((index, evidence(index)) for index in held))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """v0 and v1 hold evidence in all frames, v2 in the first half; v1 has two questions."""
    samples = []
    for number, (video, answer, kind) in enumerate(
        [("v0", 0, "what"), ("v1", 1, "what"), ("v1", 1, "when"), ("v2", 1, "when")]
    ):
        held = range(NUM_FRAMES // 2 if video == "v2" else NUM_FRAMES)
        if not (tmp_path / "videos" / video).exists():
            make_video(tmp_path, video, held)
        samples.append(
            Sample(
                id=f"s{number}",
                video_id=video,
                video=tmp_path / "videos" / video,
                question="Which one?",
                options=("red", "blue", "green", "none"),
                answer=answer,
                spans=(Span(0.0, len(held) / 6),),
                masks=tmp_path / "masks" / video,
                object_masks=tmp_path / "objects" / video,
                question_type=kind,
                source="squares",
                metadata={"level": "1", "on_screen": "2", "serial": str(number)},
            )
        )
    return Dataset("squares", tmp_path, tuple(samples), (), "0" * 64)


def gold_prediction(sample: Sample, **changes: object) -> Prediction:
    assert sample.masks is not None
    frames = {index: masks.encode(masks.read_png(path)) for index, path in masks.read_folder(sample.masks).items()}
    fields = {
        "sample": sample.id,
        "status": "ok",
        "answer": sample.answer,
        "spans": sample.spans,
        "tracks": (Track(masks=frames),),
        "mask_size": SIZE,
        "num_frames": NUM_FRAMES,
        **changes,
    }
    return Prediction.model_validate(fields)


def gold_predictions(dataset: Dataset, **changes: object) -> list[Prediction]:
    return [gold_prediction(sample, **changes) for sample in dataset.samples]


def test_gold_as_prediction_scores_one(dataset: Dataset):
    strict, original = score(dataset, [System("gold", gold_predictions(dataset))], ["strict", "st-evidence"])
    assert {title: mean.mean for title, mean in strict.metrics.items()} == dict.fromkeys(strict.metrics, 1.0)
    assert {title: mean.mean for title, mean in original.metrics.items()} == dict.fromkeys(original.metrics, 1.0)
    assert all((mean.n_total, mean.n_scored) == (4, 4) for mean in strict.metrics.values())
    assert (strict.counts.ok, strict.counts.missing, strict.counts.failed) == (4, 0, 0)
    assert strict.metrics["Acc"].low == strict.metrics["Acc"].high == 1.0


def test_a_mute_run_scores_nothing_and_is_counted_as_unparsed(dataset: Dataset):
    mute = [Prediction(sample_id=sample.id, status="ok") for sample in dataset.samples]
    for scores in score(dataset, [System("run", mute)], ["strict", "st-evidence"]):
        assert all(mean.mean == 0.0 for mean in scores.metrics.values())
        assert all((mean.n_total, mean.n_scored, mean.n_unparsed) == (4, 0, 4) for mean in scores.metrics.values())


def test_missing_and_failed_predictions_count_zero_and_apart(dataset: Dataset):
    good = gold_predictions(dataset)
    failed = good[1].model_copy(update={"status": "failed", "error": "out of memory"})
    scores = score(dataset, [System("run", [good[0], failed, good[3]])])[0]
    for mean in scores.metrics.values():
        assert (mean.n_total, mean.n_scored, mean.n_failed, mean.n_missing) == (4, 2, 1, 1)
        assert mean.mean == 0.5
    assert [row.status for row in scores.samples.values()] == ["ok", "failed", "missing", "ok"]
    assert scores.samples["s1"].values["J&F"] == 0.0


def test_one_part_that_could_not_be_read_does_not_touch_the_others(dataset: Dataset):
    scores = score(dataset, [System("run", gold_predictions(dataset, spans=None))])[0]
    assert scores.metrics["mIoU"].mean == 0.0
    assert scores.metrics["mIoU"].n_unparsed == 4
    assert scores.metrics["Acc"].mean == scores.metrics["J&F"].mean == 1.0
    assert scores.metrics["joint"].mean == 0.0
    assert scores.metrics["joint"].n_unparsed == 4


def test_the_last_prediction_for_a_sample_counts_and_strangers_are_counted(dataset: Dataset):
    good = gold_predictions(dataset)
    wrong = good[0].model_copy(update={"answer": 3})
    stranger = good[0].model_copy(update={"sample_id": "who"})
    scores = score(dataset, [System("run", [wrong, *good, stranger])])[0]
    assert scores.metrics["Acc"].mean == 1.0
    assert (scores.counts.duplicates, scores.counts.unknown) == (1, 1)
    assert score(dataset, [System("run", [*good, wrong])])[0].metrics["Acc"].mean == 0.75


def test_every_frame_counts_in_strict_and_only_predicted_ones_in_the_original(dataset: Dataset):
    few = []
    for prediction in gold_predictions(dataset):
        assert prediction.tracks is not None
        first = Track(masks={0: prediction.tracks[0].masks[0]})
        few.append(prediction.model_copy(update={"tracks": (first,), "mask_frames": (0,)}))
    strict, original = score(dataset, [System("run", few)], ["strict", "st-evidence"])
    assert original.metrics["J&F"].mean == 1.0
    assert strict.samples["s0"].values["J"] == pytest.approx(1 / 12)
    assert strict.samples["s3"].values["J"] == pytest.approx(7 / 12)  # the second half is empty on both sides
    assert strict.samples["s3"].values["J (evidence frames)"] == pytest.approx(1 / 6)


def test_the_video_and_not_the_prediction_says_how_many_frames_there_are(dataset: Dataset):
    honest = score(dataset, [System("run", gold_predictions(dataset, tracks=(Track(masks={}),)))])[0]
    boasting = score(dataset, [System("run", gold_predictions(dataset, tracks=(Track(masks={}),), num_frames=10**9))])[
        0
    ]
    assert honest.metrics["J"].mean == boasting.metrics["J"].mean == pytest.approx(0.5 / 4)


def without_videos(dataset: Dataset, **changes: object) -> Dataset:
    absent = {"video": dataset.folder / "absent.mp4", **changes}
    samples = tuple(sample.model_copy(update=absent) for sample in dataset.samples)
    return Dataset("st-evidence-gen", dataset.folder, samples, (), "0" * 64)


BLACK = masks.encode(np.zeros(SIZE, dtype=np.bool_))


@pytest.mark.parametrize("num_frames", [None, 3, 12, 100, 10**6])
@pytest.mark.parametrize("num_masks", [0, 3, 100])
def test_without_the_video_the_data_set_says_how_many_frames_there_are(
    dataset: Dataset, num_frames: int | None, num_masks: int
):
    """All black: J 0 on the frames with evidence, which are all of v0 and v1 and half of v2."""
    black = Track(masks=dict.fromkeys(range(num_masks), BLACK))
    predictions = gold_predictions(dataset, tracks=(black,), num_frames=num_frames)
    scores = score(without_videos(dataset, num_frames=NUM_FRAMES), [System("run", predictions)])[0]
    assert scores.metrics["J"].mean == scores.metrics["F"].mean == pytest.approx(0.5 / 4)
    assert scores.metrics["joint"].mean == 0.25  # half of v2 is empty on both sides
    assert scores.left_out == {}


@pytest.mark.parametrize("preset", ["strict", "hc-stvg", "st-evidence"])
def test_means_over_frames_are_left_out_where_nothing_but_the_prediction_counts_them(dataset: Dataset, preset: str):
    scores = score(without_videos(dataset), [System("run", gold_predictions(dataset))], [preset])[0]
    kept = {
        "strict": {
            "Acc",
            "mIoU",
            "J (evidence frames)",
            "F (evidence frames)",
            "J&F (evidence frames)",
            "AM",
            "Acc@GQA",
            "Acc@IoU0.5",
            "joint (evidence frames)",
        },
        "hc-stvg": set[str](),
        "st-evidence": {"Acc", "mIoU", "IoP@0.5"},
    }[preset]
    lost = {
        "strict": {"J", "F", "J&F", "vIoU", "joint", "joint@0.3", "joint@0.7", "joint area"},
        "hc-stvg": {"m_vIoU", "vIoU@0.3", "vIoU@0.5"},
        "st-evidence": {"J", "F", "J&F"},
    }[preset]
    assert kept <= scores.metrics.keys()
    assert scores.left_out.keys() == lost
    assert not lost & (scores.metrics.keys() | scores.samples["s0"].values.keys())
    assert all("bash scripts/download.sh st-evidence-gen" in reason for reason in scores.left_out.values())
    assert {mean.mean for mean in scores.metrics.values()} <= {1.0}


def test_what_is_left_out_does_not_depend_on_the_prediction(dataset: Dataset):
    absent = without_videos(dataset)
    for predictions in ([], gold_predictions(dataset, tracks=None), gold_predictions(dataset, num_frames=5)):
        assert {"J", "vIoU", "joint"} <= score(absent, [System("run", predictions)])[0].left_out.keys()
    one = Dataset("part", dataset.folder, (absent.samples[0], *dataset.samples[1:]), (), "0" * 64)
    assert "J" in score(one, [System("run", gold_predictions(dataset))])[0].left_out


MASK_SIZES = st.sampled_from([SIZE, (48, 64), (1, 1)])
TRACKS = st.lists(st.dictionaries(st.integers(0, 40), st.tuples(MASK_SIZES, st.booleans()), max_size=4), max_size=3)
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(["ok", "failed", "missing"]),
        "answer": st.none() | st.integers(-3, 9),
        "spans": st.none() | st.lists(st.tuples(st.integers(0, 3), st.integers(3, 99)), max_size=3),
        "tracks": st.none() | TRACKS,
        "damaged": st.booleans(),
        "num_frames": st.none() | st.integers(-1, 10**7),
        "mask_frames": st.none() | st.lists(st.integers(0, 99), max_size=3),
        "mask_size": st.none() | MASK_SIZES,
        "boxes": st.none() | st.dictionaries(st.integers(0, 30), st.just((0, 0, 5, 5)), max_size=3),
        "time_choice": st.none() | st.integers(-1, 3),
        "expressions": st.none() | st.just(("it",)),
    },
)


def changed_prediction(sample: Sample, changes: dict[str, object]) -> Prediction | None:
    fields = dict(changes)
    status, damaged = fields.pop("status", "ok"), fields.pop("damaged", False)
    if status == "missing":
        return None
    if fields.get("tracks") is not None:
        fields["tracks"] = [
            Track(
                masks={
                    index: masks.encode(np.full(size, is_full)) if not damaged else RLE(size=size, counts="oops")
                    for index, (size, is_full) in track.items()
                }
            )
            for track in fields["tracks"]
        ]
    error = {"status": "failed", "error": "no memory"} if status == "failed" else {}
    return gold_prediction(sample, **fields, **error)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(CHANGES, min_size=4, max_size=4))
def test_nothing_in_a_prediction_changes_a_denominator(dataset: Dataset, changes: list[dict[str, object]]):
    """Of any metric of any preset: over how many samples, and over how many frames, its mean is."""
    box = dict.fromkeys(range(3), (0.0, 0.0, 5.0, 5.0))
    evidence_of = gold_prediction(dataset.samples[0]).tracks
    choice = {"spans": None, "time_options": ([(0, 1)], [(1, 2)]), "time_answer": 0}
    kinds = ({"masks": None, "tracks": evidence_of}, {"boxes": box}, choice, {"masks": None, "tracks": ()})
    samples = tuple(
        Sample.model_validate(sample.model_dump() | kind) for sample, kind in zip(dataset.samples, kinds, strict=True)
    )
    mixed = Dataset("mixed", dataset.folder, samples, (), "0" * 64)
    given_ones = [changed_prediction(sample, each) for sample, each in zip(dataset.samples, changes, strict=True)]
    predictions = [each for each in given_ones if each is not None]
    for preset, ours, none in zip(
        PRESETS,
        score(mixed, [System("run", predictions)], list(PRESETS)),
        score(mixed, [System("run", [])], list(PRESETS)),
        strict=True,
    ):
        totals = {title: mean.n_total for title, mean in none.metrics.items()}
        unrecorded = {title for title, reason in ours.left_out.items() if reason == UNRECORDED}
        assert {title: mean.n_total for title, mean in ours.metrics.items()} == {
            title: total for title, total in totals.items() if title not in unrecorded
        }, preset
        assert ours.left_out.keys() - unrecorded <= {"LGM"}  # made of means, infinite where one of them is 1
        assert none.left_out == {}
        assert ours.groups.keys() == none.groups.keys()
    for sample, prediction in zip(samples, given_ones, strict=True):
        (found,) = compare_samples(sample, [prediction], [True])
        if found.case.masks is not None:
            assert found.case.masks.num_frames == NUM_FRAMES
            assert all(each.num_frames == NUM_FRAMES for each in found.case.objects or ())


def test_the_mean_over_an_empty_gold_tube_is_left_out_whatever_is_predicted(dataset: Dataset):
    """vIoU is undefined there: it counted 0 for who drew something, and nothing for who did not."""
    empty = dataset.folder / "masks" / "empty"
    empty.mkdir()
    blank = dataset.samples[0].model_copy(update={"masks": empty})
    alone = Dataset("blank", dataset.folder, (blank,), (), "0" * 64)
    for tracks in ((), (Track(masks={0: masks.encode(evidence(0))}),)):
        scores = score(alone, [System("run", [gold_prediction(blank, tracks=tracks)])])[0]
        assert (scores.metrics["vIoU"].n_total, scores.metrics["J"].n_total) == (0, 1)


def test_a_folder_with_files_that_are_no_masks_changes_no_denominator(dataset: Dataset, tmp_path: Path):
    """v2 has evidence in its first half only: `J (evidence frames)` had no frame of it with a broken folder."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "notes.png").write_text("no mask")
    sample = dataset.samples[3].model_copy(update={"masks": tmp_path / "late"})
    masks.write_folder(tmp_path / "late", [(5, evidence(5))])
    alone = Dataset("late", dataset.folder, (sample,), (), "0" * 64)
    scores = score(alone, [System("run", [gold_prediction(sample, tracks=None, mask_folder=broken)])])[0]
    assert (scores.metrics["J (evidence frames)"].n_total, scores.metrics["J (evidence frames)"].n_unparsed) == (1, 1)
    assert scores.counts.bad_masks == 1


def test_masks_of_another_size_are_resized_and_damaged_ones_are_unparsed(dataset: Dataset):
    good = gold_predictions(dataset)
    large = Track(masks={index: masks.encode(masks.resize(evidence(index), (48, 64))) for index in range(NUM_FRAMES)})
    damaged = Track(masks={0: RLE(size=SIZE, counts="oops")})
    scores = score(
        dataset,
        [
            System(
                "run",
                [
                    good[0].model_copy(update={"tracks": (large,)}),
                    good[1].model_copy(update={"tracks": (damaged,)}),
                    *good[2:],
                ],
            )
        ],
    )[0]
    assert scores.counts.resized_masks == NUM_FRAMES
    assert scores.counts.bad_masks == 1
    assert scores.samples["s0"].values["J"] == 1.0
    assert scores.samples["s1"].values["J"] == 0.0
    assert scores.metrics["J"].n_unparsed == 1
    assert scores.metrics["Acc"].n_unparsed == 0


def test_samples_without_gold_leave_the_mean_in_strict(dataset: Dataset):
    bare = dataset.samples[0].model_copy(update={"spans": None, "masks": None})
    partly = Dataset("partly", dataset.folder, (bare, *dataset.samples[1:]), (), "")
    strict, original = score(partly, [System("run", gold_predictions(dataset))], ["strict", "st-evidence"])
    assert (strict.metrics["mIoU"].n_total, strict.metrics["mIoU"].mean) == (3, 1.0)
    assert (original.metrics["mIoU"].n_total, original.metrics["mIoU"].mean) == (4, 0.75)
    assert strict.metrics["J"].n_total == original.metrics["J"].n_total == 3
    assert strict.metrics["joint"].n_total == 3
    assert strict.samples["s0"].values["mIoU"] is None


def test_the_number_of_samples_behind_a_metric_does_not_depend_on_the_predictions(dataset: Dataset):
    empty = dataset.folder / "masks" / "nothing"
    empty.mkdir()
    blank = dataset.samples[0].model_copy(update={"masks": empty})
    partly = Dataset("partly", dataset.folder, (blank, *dataset.samples[1:]), (), "")
    for predictions in ([], gold_predictions(dataset)):
        assert score(partly, [System("run", predictions)])[0].metrics["J (evidence frames)"].n_total == 3
        assert score(partly, [System("run", predictions)])[0].metrics["J"].n_total == 4


def test_groups_hold_the_scores_of_their_samples(dataset: Dataset):
    good = gold_predictions(dataset)
    scores = score(dataset, [System("run", [*good[:2], *(p.model_copy(update={"answer": 3}) for p in good[2:])])])[0]
    kinds = scores.groups["question_type"]
    assert (kinds["what"]["Acc"].mean, kinds["when"]["Acc"].mean) == (1.0, 0.0)
    assert kinds["what"]["Acc"].n_total == 2
    assert scores.groups["source"]["squares"]["Acc"].mean == 0.5
    assert set(scores.groups) == {"question_type", "source", "level", "on_screen", "serial"}


def test_scores_read_back_as_they_were_written(dataset: Dataset, tmp_path: Path):
    scores = score(dataset, [System("run", gold_predictions(dataset))], ["strict", "st-evidence"])
    write_scores(tmp_path / "scores.json", scores)
    assert read_scores(tmp_path / "scores.json") == scores
    assert json.loads((tmp_path / "scores.json").read_text())[0]["metrics"]["Acc"]["mean"] == 1.0
    (tmp_path / "scores.json").write_text('[{"name": 3}]')
    with pytest.raises(ValueError, match=r"is no list of scores.*run `evqa score` again"):
        read_scores(tmp_path / "scores.json")


def test_every_value_of_a_file_of_scores_is_a_fraction_and_says_so(dataset: Dataset, tmp_path: Path):
    path = tmp_path / "scores.json"
    half = gold_predictions(dataset)[:2]
    scores = score(dataset, [System("run", half)], ["strict", "st-evidence", "v-star"])
    write_scores(path, scores)
    entries = json.loads(path.read_text())
    assert {entry["version"] for entry in entries} == {2}
    for entry in entries:
        tables = [entry["metrics"], *(table for rows in entry["groups"].values() for table in rows.values())]
        stated = [mean for table in tables for mean in table.values()]
        stated += [*entry["derived"].values(), *entry["samples"].values(), entry]
        assert {each["unit"] for each in stated} == {"fraction"}
        assert entry["metrics"]["Acc"]["mean"] == 0.5
        assert entry["samples"]["s0"]["values"]["Acc"] == 1.0
    old = [as_version_1(entry) for entry in entries]
    assert old[1]["metrics"]["Acc"]["mean"] == old[1]["samples"]["s0"]["values"]["Acc"] / 2 == 50
    path.write_text(json.dumps(old))
    for read, written in zip(read_scores(path), scores, strict=True):
        assert read.samples == written.samples
        assert read.derived == written.derived
        assert read.metrics.keys() == written.metrics.keys()
        for title, mean in read.metrics.items():
            assert mean.model_dump() == pytest.approx(written.metrics[title].model_dump())
    path.write_text(json.dumps([old[0] | {"version": 3}]))
    with pytest.raises(ValueError, match=r"version.*run `evqa score` again"):
        read_scores(path)
    path.write_text(json.dumps([{"version": 1, "preset": "st-evidence", "samples": [], "metrics": 3}]))
    with pytest.raises(ValueError, match=r"run `evqa score` again"):
        read_scores(path)


# Baselines


def rows(found: list[Scores]) -> dict[str, Scores]:
    return {scores.name: scores for scores in found}


def test_trivial_baselines_go_through_the_same_scores(dataset: Dataset):
    found = rows(baselines.baselines(dataset, train=dataset))
    assert found["chance"].metrics["Acc"].mean == 0.25
    assert found["chance over visible objects"].metrics["Acc"].mean == 0.5
    assert found["most frequent letter of the training set (B)"].metrics["Acc"].mean == 0.75
    assert found["whole video"].metrics["mIoU"].mean == pytest.approx((3 * 1 + 0.5) / 4)
    assert found["empty mask"].metrics["J"].mean == pytest.approx(0.5 / 4)
    assert found["empty mask"].metrics["J (evidence frames)"].mean == 0.0
    assert found["full-frame mask"].metrics["J (evidence frames)"].mean == pytest.approx(64 / (24 * 32))
    assert found["all objects merged"].metrics["J (evidence frames)"].mean == pytest.approx(0.5)
    assert "Acc" not in found["full-frame mask"].metrics
    assert "joint" not in found["full-frame mask"].metrics
    in_time = {"mIoU", "mIoP", "t-mean", "IoU@0.3", "IoU@0.5", "IoP@0.3", "IoP@0.5"}
    assert set(found["whole video"].metrics) == in_time
    for name, part in {"middle half": 0.5, "first third": 1 / 3}.items():
        assert found[name].metrics["mIoP"].mean is not None
        assert found[name].samples["s0"].values["mIoU"] == pytest.approx(part)
    fast = rows(baselines.baselines(dataset, train=dataset, with_masks=False))
    assert found.keys() - fast.keys() == {"empty mask", "full-frame mask", "all objects merged"}


def test_the_fitted_span_is_the_best_of_the_grid(dataset: Dataset):
    spans = [Span(0.5, 1.5), Span(0.5, 1.0), Span(0.4, 1.4), Span(0.0, 2.0)]
    samples = tuple(
        sample.model_copy(update={"spans": (span,)}) for sample, span in zip(dataset.samples, spans, strict=True)
    )
    train = Dataset("train", dataset.folder, samples, (), "")
    start, end = baselines.best_constant_span(train)
    grid = [(a / 20, b / 20) for a in range(20) for b in range(a + 1, 21)]
    best = max((sum(tmean((Span(2 * a, 2 * b),), (span,)) for span in spans) / 4, a, b) for a, b in grid)
    assert (start, end) == best[1:]
    fitted = next(scores for scores in baselines.baselines(train, train) if scores.name.startswith("constant span"))
    assert fitted.metrics["t-mean"].mean == pytest.approx(best[0])


def test_baselines_without_a_training_set(dataset: Dataset):
    found = baselines.baselines(dataset, presets=("strict", "st-evidence"))
    assert any(scores.name.startswith("constant span fitted on this data set") for scores in found)
    chance = [scores for scores in found if scores.name == "chance"]
    assert [(scores.preset, scores.metrics["Acc"].mean) for scores in chance] == [
        ("strict", 0.25),
        ("st-evidence", 0.25),
    ]
    assert any(scores.name == "most frequent letter of this data set (B)" for scores in found)


def test_a_data_set_without_gold_has_no_baselines(dataset: Dataset):
    bare = tuple(
        sample.model_copy(update={"answer": None, "spans": None, "masks": None, "options": (), "metadata": {}})
        for sample in dataset.samples
    )
    assert baselines.baselines(Dataset("bare", dataset.folder, bare, (), "")) == []


def test_scores_with_the_names_of_an_earlier_version_are_read_with_the_current_names(dataset: Dataset, tmp_path: Path):
    scores = score(dataset, [System("run", gold_predictions(dataset))], ["strict"])
    path = tmp_path / "scores.json"
    write_scores(path, scores)
    text = path.read_text()
    for earlier, name in EARLIER_NAMES.items():
        assert f'"{name}"' in text
        text = text.replace(f'"{name}"', f'"{earlier}"')
    path.write_text(text)
    assert '"J (evidence frames)"' not in text
    assert read_scores(path) == scores
