import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from leafkit.training.batches import Order, held_out_rows, learning_rate_factor


def order(lengths, *, batch_size, window, seed=0, shares=None):
    lengths = np.asarray(lengths, dtype=np.int64)
    return Order(lengths, shares or [(np.arange(len(lengths)), 1.0)], batch_size, window, seed)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=200), st.integers(1, 40), st.integers(1, 5))
def test_every_epoch_is_a_permutation(lengths, batch_size, window):
    made = order(lengths, batch_size=batch_size, window=window, seed=3)
    for epoch in (0, 1):
        plan = made.epoch(epoch)
        assert sorted(np.concatenate(plan).tolist()) == list(range(len(lengths)))
        assert max(map(len, plan)) <= batch_size
        assert len(plan) == made.steps_per_epoch


@given(st.integers(1, 50), st.integers(1, 50), st.floats(0.05, 3.5), st.floats(0.05, 3.5), st.integers(0, 5))
def test_a_weight_says_how_often_a_row_comes(first, second, one, other, epoch):
    rows = np.arange(first + second)
    shares = [(rows[:first], one), (rows[first:], other)]
    made = order(np.ones(len(rows)), batch_size=4, window=2, shares=shares)
    if made.rows_per_epoch == 0:
        return
    counts = np.bincount(np.concatenate(made.epoch(epoch)), minlength=len(rows))
    assert counts.sum() == made.rows_per_epoch
    for (part, weight), of_part in zip(shares, np.split(counts, [first]), strict=True):
        assert of_part.sum() == pytest.approx(weight * len(part), abs=1.0)
        assert set(of_part) <= {int(weight), int(weight) + 1}


def test_a_weight_below_one_takes_other_rows_in_every_epoch():
    made = order(np.ones(100), batch_size=10, window=2, shares=[(np.arange(100), 0.5)])
    assert set(np.concatenate(made.epoch(0)).tolist()) != set(np.concatenate(made.epoch(1)).tolist())


def test_the_plan_depends_on_seed_and_epoch_alone_case_04():
    plans = [[b.tolist() for b in order(range(10), batch_size=3, window=2, seed=17).epoch(e)] for e in (0, 1, 2)]
    again = [[b.tolist() for b in order(range(10), batch_size=3, window=2, seed=17).epoch(e)] for e in (2, 1, 0)][::-1]
    assert plans == again
    assert plans[0] != plans[1] != plans[2] != plans[0]
    assert [len(plan) for plan in plans] == [4, 4, 4]


def test_buckets_pad_little():
    lengths = np.random.default_rng(0).integers(5, 256, 3200)
    plan = order(lengths, batch_size=32, window=50).epoch(0)
    padded = sum(len(rows) * lengths[rows].max() for rows in plan)
    assert padded / lengths.sum() < 1.05


def test_held_out_rows_depend_on_the_texts_alone():
    keys = [bytes([number * 37 % 251]) for number in range(100)]
    chosen = {keys[row] for row in held_out_rows(keys, 5)}
    assert chosen == {keys[::-1][row] for row in held_out_rows(keys[::-1], 5)}
    assert len(held_out_rows(keys, 50)) == 10


def test_the_rate_rises_then_falls_to_a_tenth():
    assert learning_rate_factor(0.0, warmup=0.1) == pytest.approx(0.01)
    assert learning_rate_factor(0.05, warmup=0.1) == pytest.approx(0.5)
    assert learning_rate_factor(0.1, warmup=0.1) == pytest.approx(1.0)
    assert learning_rate_factor(1.0, warmup=0.1) == pytest.approx(0.1)


def test_each_of_three_cycles_falls_from_the_peak_to_a_tenth_as_in_leaf():
    factors = [learning_rate_factor(step / 3000, warmup=0.01, cycles=3) for step in range(3000)]
    for first in (30, 1000, 2000):
        assert factors[first] == pytest.approx(1.0)
        last = (first // 1000 + 1) * 1000 - 1
        assert factors[last] == pytest.approx(0.1, abs=2e-3)
        assert (np.diff(factors[first : last + 1]) < 0).all()
