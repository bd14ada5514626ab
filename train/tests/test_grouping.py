"""Draws of like length together: nothing is lost, less is padding."""

import numpy as np

from evqa.schema import Sample, TrainingExchange
from unipixel.configs import DataConfig
from unipixel.data import batching

CONFIG = DataConfig(datasets=(("a", 1.0),))


def sizes(count=1000, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(0, 3, count), rng.integers(10, 1000, count)], axis=1)


def order(unit, lead=0, seed=0):
    return batching.group_samples(sizes(), unit, lead, np.random.default_rng(seed))


def padding(lengths, unit):
    """Share of a batch's tokens that are padding."""
    whole = lengths[: len(lengths) // unit * unit].reshape(-1, unit)
    return 1 - whole.sum() / (whole.max(1) * unit).sum()


def test_each_draw_comes_once_and_both_ends_stay():
    for unit, lead in ((1, 0), (8, 0), (8, 3), (32, 31), (999, 2), (2000, 5)):
        found = order(unit, lead)
        assert sorted(found.tolist()) == list(range(1000))
        tail = (1000 - lead) % unit
        assert found[:lead].tolist() == list(range(lead))
        assert found[1000 - tail :].tolist() == list(range(1000 - tail, 1000))


def test_the_order_is_that_of_the_seed():
    assert np.array_equal(order(8), order(8))
    assert not np.array_equal(order(8), order(8, seed=1))


def test_groups_hold_one_kind_and_little_padding():
    found = sizes()[order(8)]
    kinds = found[:, 0].reshape(-1, 8)
    assert (kinds.max(1) > kinds.min(1)).mean() < 0.05
    assert padding(found[:, 1], 8) < 0.1 < 0.3 < padding(sizes()[:, 1], 8)


def test_long_groups_and_short_ones_come_in_no_order():
    means = sizes()[order(8)][:, 1].reshape(-1, 8).mean(1)[: batching.WINDOW]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3


def test_of_many_turns_only_those_that_are_drawn_count():
    turns = tuple(TrainingExchange(question="x" * 400, targets=(1,)) for _ in range(12))
    sample = Sample(
        id="a", video_id="a", video="a.png", question="x", task_type="query", label_map="l.png", turns=turns
    )
    kind, tokens = batching.size_of(sample, CONFIG)
    assert kind == 3
    assert tokens == 3 * 100 + 8 * 256
