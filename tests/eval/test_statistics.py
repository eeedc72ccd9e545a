import itertools

import numpy as np
import pytest

from leafkit_eval import statistics
from leafkit_eval.statistics import SAMPLES, bootstrap_means, interval, ratio


def test_the_interval_of_a_mean_is_as_wide_as_theory_says():
    values = np.random.default_rng(1).normal(size=(1, 400))
    low, high = interval(bootstrap_means(values)[:, 0])
    error = values.std() / np.sqrt(400)
    # The bound's own error with 2,000 samples is about 0.06 standard errors; three of those.
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.18 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.18 * error)


def test_systems_share_their_draws_so_that_a_constant_share_has_no_width():
    values = np.random.default_rng(2).random(50)
    means = bootstrap_means(np.stack([values, 0.9 * values]))
    assert interval(ratio(means[:, 1], means[:, 0])) == pytest.approx((0.9, 0.9))


def test_draws_repeat_and_depend_on_the_data_set_alone():
    values = np.random.default_rng(3).random((2, 30))
    again = bootstrap_means(values, salt="a")
    assert (bootstrap_means(values, salt="a") == again).all()
    assert (bootstrap_means(values, salt="b") != again).any()
    assert (bootstrap_means(values, seed=1, salt="a") != again).any()


def test_draws_do_not_depend_on_how_many_are_held_at_a_time(monkeypatch):
    values = np.random.default_rng(4).random((3, 20))
    whole = bootstrap_means(values)
    monkeypatch.setattr("leafkit_eval.statistics._AT_ONCE", 170)
    np.testing.assert_allclose(bootstrap_means(values), whole, rtol=0, atol=1e-15)
    assert whole.shape == (SAMPLES, 3)


def test_a_share_of_nothing_is_no_number():
    assert np.isnan(ratio(np.array([1.0, 0.0]), np.zeros(2))).all()
    assert interval(np.array([np.nan, np.nan])) is None
    assert interval(np.array([np.nan, 2.0])) == (2.0, 2.0)


def test_the_randomisation_test_is_the_exact_one_where_that_can_be_counted():
    random = np.random.default_rng(3)
    differences = random.normal(0.3, 1.0, size=(2, 10))
    chance = statistics.flipped_means(differences, salt="small")
    signs = np.array(list(itertools.product((-1, 1), repeat=10)))
    for row, samples in zip(differences, chance.T, strict=True):
        observed = row.mean()
        exact = (np.abs(signs @ row / 10) >= abs(observed) - 1e-12).mean()
        assert statistics.p_value(observed, samples) == pytest.approx(exact, abs=0.02)
    assert np.array_equal(chance, statistics.flipped_means(differences, salt="small"))
    assert not np.array_equal(chance, statistics.flipped_means(differences, salt="other"))


def test_no_difference_has_p_1_and_a_p_is_never_0():
    assert statistics.p_value(0.0, statistics.flipped_means(np.zeros((1, 5)))[:, 0]) == 1.0
    assert statistics.p_value(1.0, statistics.flipped_means(np.ones((1, 400)))[:, 0]) == pytest.approx(1 / 10_001)
    assert statistics.share_at_most(np.full(99, 0.5), 0.0) == 0.01


def test_p_values_are_right_where_there_is_no_difference():
    """Of many tests of nothing, one in twenty falls below 0.05."""
    random = np.random.default_rng(4)
    differences = random.normal(size=(300, 40))
    chance = statistics.flipped_means(differences, samples=2000)
    p_values = [statistics.p_value(row.mean(), samples) for row, samples in zip(differences, chance.T, strict=True)]
    assert 0.02 < np.mean(np.array(p_values) < 0.05) < 0.09


def test_holms_correction_is_the_papers():
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.9, 0.8]) == [1.0, 1.0]
    assert statistics.holm([]) == []
