"""Result files of benchmarks of long videos: LVBench, LongVidSearch, Video SimpleQA.

The answers to open questions of LongVidSearch and Video SimpleQA are graded by language models, and the files hold the
verdicts. They are scored here and not by the engine: verdicts are no field of a prediction, several judges vote on one
answer, and the chain of an entry of Video SimpleQA is scored as a whole.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Annotated, cast

from pydantic import BeforeValidator

from evqa.metrics.means import Cell
from evqa.metrics.open_answers import Grade, correct_of_attempted, f_score
from evqa.official.official_data import (
    ANSWER,
    OfficialData,
    dataset_of,
    multiple_choice,
    note_unknown,
    option_index,
    prediction_of,
    sample_of,
)
from evqa.official.records import (
    OR_NONE,
    ExternalRecord,
    as_list,
    as_object,
    read_json,
    read_keyed,
    read_records,
    read_valid,
    validate_record,
)
from evqa.official.scores import OFFICIAL, STRICT, FileScores, OfficialFiles, QuestionRows, ScoredQuestion, file_scores
from evqa.schema import Sample

# LVBench

LVBENCH_OPTIONS = 4


def _as_list(value: object) -> object:
    return cast("object", value) if isinstance(value, list | tuple) else [value]


class _LvQuestion(ExternalRecord):
    uid: str | None = None
    answer: str | None = None
    question_type: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = ()


class _LvRow(_LvQuestion):
    key: str
    qa: tuple[object, ...] | None = None
    """Questions of a video; None = a flat row, which is itself the question."""


def lvbench(files: OfficialFiles) -> OfficialData:
    """`{uid: "A"}` with ground truth `video_info.meta.jsonl` (or a flat list), as `compute_accuracy.py` reads it.

    Questions without an answer in the file leave the mean (official) or count 0 (strict).
    """
    notes: list[str] = []
    dataset = dataset_of("lvbench", files.the_gold(), _lvbench_samples(files, notes))
    options = {sample.id: sample.options for sample in dataset.samples}
    answers = read_keyed(files.predictions).items()
    predictions = {
        uid: prediction_of(uid, answer=option_index(str(answer), options.get(uid, ())))
        for uid, answer in answers
        if answer is not None
    }
    note_unknown(dataset, predictions, notes)
    return OfficialData(dataset=dataset, predictions=predictions, gives=ANSWER, notes=notes)


def _lvbench_samples(files: OfficialFiles, notes: list[str]) -> Iterator[Sample]:
    """Yield the questions; one without a uid, or with one that came before, has the id KEY_N as in our data set."""
    name = files.the_gold().name
    counts: Counter[str] = Counter()
    uids: set[str] = set()
    for row in read_records(files.the_gold(), _LvRow, notes):
        for entry in [row.model_dump()] if row.qa is None else row.qa:
            counts[row.key] += 1
            fallback = f"{row.key}_{counts[row.key]}"
            question = validate_record(entry, _LvQuestion, f"{name} {fallback}", notes)
            if question is None or question.answer is None:
                notes += [] if question is None else [f"{name} {fallback} is left out: it has no answer"]
                continue
            uid = fallback if question.uid is None or question.uid in uids else question.uid
            if question.uid in uids:
                notes.append(f"{name} {fallback}: uid {question.uid} is that of another question")
            uids.add(uid)
            choice = multiple_choice(question.answer, LVBENCH_OPTIONS)
            yield sample_of(uid, row.key, answer=choice, question_type=", ".join(question.question_type) or None)


# LongVidSearch

JUDGES = ("corr1", "corr2", "corr3")

_Vote = Annotated[int | None, OR_NONE]


class _SearchLog(ExternalRecord):
    corr1: _Vote = None
    corr2: _Vote = None
    corr3: _Vote = None
    general_corr: _Vote = None
    cost: Annotated[float | None, OR_NONE] = None
    category: str | None = None
    hop_level: str | None = None
    golden_evidence_clip: tuple[int, ...] = ()
    sampled_clips: Annotated[tuple[int, ...] | None, OR_NONE] = None
    vid: str | None = None

    @property
    def votes(self) -> list[int | None]:
        """Verdicts of the judges."""
        return [self.corr1, self.corr2, self.corr3]


class _SearchGold(ExternalRecord):
    vid: str = ""
    category: str | None = None
    evidence_slices: tuple[int, ...] = ()


def longvidsearch(files: OfficialFiles) -> FileScores:
    """`{place: {corr1, corr2, corr3, cost, category, golden_evidence_clip, sampled_clips}}`, as `main.py` writes it.

    The place is that of the question in `full-QA(3000).json`, an optional ground truth file.
    Official: accuracy of each judge and `general_corr`, over the questions in the file: one that ended with an error
    is not in it. Strict: the majority of the three votes, over all questions of the ground truth if there is a file;
    slices that the agent looked at against the needed ones.
    """
    notes: list[str] = []
    logs = read_valid(files.predictions, _SearchLog, notes)
    gold = {} if files.gold is None else dict(_numbered(read_records(files.gold, _SearchGold, notes)))
    if gold and (unknown := logs.keys() - gold.keys()):
        notes.append(f"{len(unknown)} entries are for unknown questions, such as {min(unknown)!r}")
    absent = gold.keys() - logs.keys()
    if files.gold is None:
        notes.append("questions that ended with an error are not in this file; give the ground truth to count them")
    tables = [
        QuestionRows(
            convention=OFFICIAL,
            name="predictions",
            rows=[_search_row(key, log, gold.get(key), _official_votes(log)) for key, log in logs.items()],
            numbers={"mean tool calls": _mean([log.cost for log in logs.values()])},
        ),
        QuestionRows(
            convention=STRICT,
            name="predictions",
            rows=[
                *(_search_row(key, log, gold.get(key), _strict_cells(log, gold.get(key))) for key, log in logs.items()),
                *(_search_row(key, None, gold[key], _absent_cells(gold[key])) for key in sorted(absent)),
            ],
        ),
    ]
    conventions = {
        OFFICIAL: "official: each judge, and the majority as the file states it, over the questions in the file",
        STRICT: "strict: majority of the three votes, a missing vote counts against the answer; slices the agent "
        "looked at; questions that the file lacks count 0",
    }
    return file_scores("longvidsearch", conventions, tables, notes)


def _numbered(rows: Sequence[_SearchGold]) -> Iterator[tuple[str, _SearchGold]]:
    return ((str(place), row) for place, row in enumerate(rows))


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return fmean(numbers) if numbers else None


def _search_row(
    key: str, log: _SearchLog | None, gold: _SearchGold | None, cells: Mapping[str, Cell]
) -> ScoredQuestion:
    video = (gold.vid if gold else None) or (log.vid if log else None) or key
    group = (log.category if log else None) or (gold.category if gold else None)
    return ScoredQuestion(id=key, video=video, cells=cells, group=group)


def _official_votes(log: _SearchLog) -> dict[str, Cell]:
    votes = zip(("judge 1", "judge 2", "judge 3", "majority"), [*log.votes, log.general_corr], strict=True)
    return {name: _vote_cell(vote) for name, vote in votes}


def _vote_cell(vote: int | None) -> Cell:
    return Cell(0.0, "unparsed") if vote is None else Cell(float(vote == 1))


def _strict_cells(log: _SearchLog, gold: _SearchGold | None) -> dict[str, Cell]:
    votes = [vote for vote in log.votes if vote is not None]
    majority = Cell(float(votes.count(1) >= 2), "scored" if votes else "unparsed")
    needed = set(gold.evidence_slices if gold else log.golden_evidence_clip)
    return {"majority": majority, **_slice_cells(needed, log.sampled_clips)}


def _slice_cells(needed: set[int], clips: Sequence[int] | None) -> dict[str, Cell]:
    if not needed:
        return {name: Cell(None) for name in ("slice recall", "slice precision", "all slices")}
    inspected = set(clips or ())
    shared = len(needed & inspected)
    values = (shared / len(needed), shared / len(inspected) if inspected else 0.0, float(needed <= inspected))
    cells = [Cell(value, "unparsed" if clips is None else "scored") for value in values]
    return dict(zip(("slice recall", "slice precision", "all slices"), cells, strict=True))


def _absent_cells(gold: _SearchGold) -> dict[str, Cell]:
    cells = {"majority": Cell(0.0), **_slice_cells(set(gold.evidence_slices), ())}
    return {name: cell if cell.value is None else Cell(0.0, "missing") for name, cell in cells.items()}


# Video SimpleQA

MAX_HOPS = 4
GRADES: Mapping[str, Grade] = {
    "a": "correct",
    "correct": "correct",
    "b": "incorrect",
    "incorrect": "incorrect",
    "c": "not_attempted",
    "not_attempted": "not_attempted",
    "not attempted": "not_attempted",
}
"""Verdict in lower case -> grade."""
_LETTER = re.compile(r"([abc])\s*[:.)]", re.IGNORECASE)
_SAMPLE_ID = re.compile(r"(.+)_(multi|hop[1-4])")


@dataclass
class _Chain:
    """The verdicts of an entry, as the file has them."""

    name: str
    video: str
    hops: list[object]
    """Verdict of each question of the chain in order."""
    multi: object
    """Verdict of the multi-hop question."""
    num_read: int
    """Hops that the published script reads: up to the first one without a verdict in the file."""


def grade_of(verdict: object) -> Grade | None:
    """Return the grade of a judge's verdict: `A`, `CORRECT`, `a: correct`; None = it is none."""
    text = verdict.strip() if isinstance(verdict, str) else ""
    match = _LETTER.match(text)
    return GRADES.get((match[1] if match else text).lower())


def video_simpleqa(files: OfficialFiles) -> FileScores:
    """Verdicts of a judge: the list of `video_qa_evaluation_multi_round.py`, or `{SAMPLE_ID: verdict}`.

    An optional ground truth file, `VideoSimpleQA.json`, adds the questions that the file lacks.
    Official: percent with one decimal as `multi_round_qa_fscore.py` rounds them, also in between. The questions of a
    hop are those whose entries have verdicts for it and all hops before.
    Strict: fractions; all questions of a hop count, one without a readable verdict as not attempted. `chain`: the
    multi-hop question and all questions of its chain are answered correctly.
    """
    notes: list[str] = []
    chains = _chains(files, notes)
    tables = [
        QuestionRows(
            convention=OFFICIAL,
            name="predictions",
            rows=[_chain_row(chain, _multi_cells(chain)) for chain in chains],
            numbers=_official_numbers(chains),
        ),
        QuestionRows(
            convention=STRICT,
            name="predictions",
            rows=[_chain_row(chain, _chain_cells(chain)) for chain in chains],
            numbers=_strict_numbers(chains),
        ),
    ]
    conventions = {
        OFFICIAL: "official: numbers in percent, rounded as the script rounds them",
        STRICT: "strict: all questions count, one without a verdict as not attempted; numbers are fractions",
    }
    return file_scores("video-simpleqa", conventions, tables, notes)


def _chains(files: OfficialFiles, notes: list[str]) -> list[_Chain]:
    content = read_json(files.predictions)
    entries = as_list(content)
    by_id = as_object(content)
    if entries is None and by_id is None:
        raise ValueError(f"{files.predictions} is no list of results and no object of verdicts by sample id")
    gold = [] if files.gold is None else _gold_entries(files)
    chains = [] if entries is None else list(_listed_chains(entries, files.predictions.name, notes))
    if by_id is not None:
        chains = _keyed_chains(by_id, gold, notes)
    elif gold:
        chains += _absent_chains(chains, gold)
    return chains


def _gold_entries(files: OfficialFiles) -> list[dict[str, object]]:
    entries = as_list(read_json(files.the_gold()))
    if entries is None:
        raise ValueError(f"{files.gold} is no list of entries: expected VideoSimpleQA.json")
    return [as_object(entry) or {} for entry in entries]


def _listed_chains(entries: Sequence[object], name: str, notes: list[str]) -> Iterator[_Chain]:
    for place, entry in enumerate(entries, 1):
        row = as_object(entry)
        if row is None or not any(key.startswith(("Multi_hop", "QA_Pair")) for key in row):
            notes.append(f"{name} entry {place} is left out: it is no result of Video SimpleQA")
            continue
        hops = [row.get(f"QA_Pair_{hop}_grade") for hop in range(1, _num_hops(row) + 1)]
        num_read = next((hop for hop in range(1, MAX_HOPS + 2) if f"QA_Pair_{hop}_grade" not in row), MAX_HOPS + 1) - 1
        yield _Chain(_key(row), str(row.get("date", place)), hops, row.get("Multi_hop_grade", "C"), num_read)


def _num_hops(row: Mapping[str, object]) -> int:
    """Return the number of the last question of a chain."""
    hops = range(1, MAX_HOPS + 1)
    return max((hop for hop in hops if row.get(f"QA_Pair_{hop}_Question") or f"QA_Pair_{hop}_grade" in row), default=0)


def _key(row: Mapping[str, object]) -> str:
    """Return what identifies an entry, as the published script does: date and question."""
    return f"{row.get('date', '')}|{row.get('Multi_hop_Question', '')}"


def _absent_chains(chains: Sequence[_Chain], gold: Sequence[Mapping[str, object]]) -> Iterator[_Chain]:
    names = {chain.name for chain in chains}
    for row in gold:
        if _key(row) not in names:
            yield _Chain(_key(row), str(row.get("date", "")), [None] * _num_hops(row), None, 0)


def _keyed_chains(
    verdicts: Mapping[str, object], gold: Sequence[Mapping[str, object]], notes: list[str]
) -> list[_Chain]:
    """Return the chains of verdicts by the sample ids of our data set."""
    parts: dict[str, dict[str, object]] = {}
    for place, row in enumerate(gold, 1):
        parts[f"{place:04d}"] = {"multi": None, **{f"hop{hop}": None for hop in range(1, _num_hops(row) + 1)}}
    for sample_id, verdict in verdicts.items():
        match = _SAMPLE_ID.fullmatch(sample_id)
        if match is None or (gold and match[2] not in parts.get(match[1], {})):
            notes.append(f"{sample_id[:80]!r} is no id of a question, such as 0001_multi or 0001_hop1")
            continue
        parts.setdefault(match[1], {})[match[2]] = verdict
    return [_chain_of(name, entry) for name, entry in parts.items()]


def _chain_of(name: str, entry: Mapping[str, object]) -> _Chain:
    last = max((int(part[3:]) for part in entry if part != "multi"), default=0)
    hops = [_letter(entry.get(f"hop{hop}")) for hop in range(1, last + 1)]
    num_read = next((place for place, verdict in enumerate(hops) if verdict is None), last)
    return _Chain(name, name, list(hops), _letter(entry.get("multi")), num_read)


def _letter(verdict: object) -> str | None:
    """Return the letter by which the published script writes a verdict; None = it is none."""
    grade = grade_of(verdict)
    return None if grade is None else {"correct": "A", "incorrect": "B", "not_attempted": "C"}[grade]


def _chain_row(chain: _Chain, cells: Mapping[str, Cell]) -> ScoredQuestion:
    return ScoredQuestion(id=chain.name, video=chain.video, cells=cells, group=f"{len(chain.hops)} hops")


def _multi_cells(chain: _Chain) -> dict[str, Cell]:
    names = {"is_correct": "A", "is_incorrect": "B", "is_not_attempted": "C"}
    return {name: Cell(float(chain.multi == letter)) for name, letter in names.items()}


def _chain_cells(chain: _Chain) -> dict[str, Cell]:
    grade = grade_of(chain.multi)
    hops = [grade_of(verdict) for verdict in chain.hops]
    are_hops_correct = all(hop == "correct" for hop in hops)
    state = "unparsed" if grade is None else "scored"
    return {
        "correct": Cell(float(grade == "correct"), state),
        "attempted": Cell(float(grade in {"correct", "incorrect"}), state),
        **{f"hop {place} correct": Cell(float(hop == "correct")) for place, hop in enumerate(hops, 1)},
        "chain": Cell(float(are_hops_correct and grade == "correct"), state) if hops else Cell(None),
        "correct, all hops correct": Cell(float(grade == "correct"), state)
        if hops and are_hops_correct
        else Cell(None),
    }


HOPS = range(1, MAX_HOPS + 1)


def _official_numbers(chains: Sequence[_Chain]) -> dict[str, float | None]:
    numbers = {f"QA_Pair_{hop}": _rounded_f([c.hops[hop - 1] for c in chains if c.num_read >= hop]) for hop in HOPS}
    multi = [chain.multi for chain in chains]
    return {"Multi_hop": _rounded_f(multi), "accuracy_given_attempted": _rounded_accuracy(multi), **numbers}


def _rounded_accuracy(verdicts: Sequence[object]) -> float | None:
    """Return the accuracy of attempted answers in percent, with one decimal; None without a question."""
    correct, incorrect = verdicts.count("A"), verdicts.count("B")
    return round(100 * correct_of_attempted(correct, correct + incorrect), 1) if verdicts else None


def _rounded_f(verdicts: Sequence[object]) -> float | None:
    """Return the F-score in percent as the published script rounds it: first the accuracy of attempted answers."""
    percent = _rounded_accuracy(verdicts)
    if percent is None:
        return None
    rate, accuracy = verdicts.count("A") / len(verdicts), percent / 100
    return round(100 * 2 * accuracy * rate / (accuracy + rate), 1) if accuracy + rate > 0 else 0.0


def _strict_numbers(chains: Sequence[_Chain]) -> dict[str, float | None]:
    multi: list[Grade | None] = [grade_of(chain.multi) for chain in chains]
    return {
        "F-score": f_score(*_shares(multi)) if multi else None,
        "correct of attempted": correct_of_attempted(*_shares(multi)) if multi else None,
        **{f"F-score hop {hop}": _f_of_hop(chains, hop) for hop in HOPS},
    }


def _f_of_hop(chains: Sequence[_Chain], hop: int) -> float | None:
    grades: list[Grade | None] = [grade_of(chain.hops[hop - 1]) for chain in chains if len(chain.hops) >= hop]
    return f_score(*_shares(grades)) if grades else None


def _shares(grades: Sequence[Grade | None]) -> tuple[float, float]:
    """Return the shares of correct and attempted answers."""
    correct, incorrect = grades.count("correct"), grades.count("incorrect")
    return correct / max(len(grades), 1), (correct + incorrect) / max(len(grades), 1)
