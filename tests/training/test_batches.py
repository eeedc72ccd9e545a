import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from leafkit.errors import RecipeError
from leafkit.training import preset
from leafkit.training.batches import held_out_rows, learning_rate_factor, plan_epoch
from leafkit.training.recipe import Recipe, make_recipe


@given(st.lists(st.integers(1, 300), min_size=1, max_size=200), st.integers(1, 40), st.integers(1, 5))
def test_every_epoch_is_a_permutation(lengths, batch_size, window):
    for epoch in (0, 1):
        plan = plan_epoch(lengths, batch_size=batch_size, window=window, seed=3, epoch=epoch)
        assert sorted(np.concatenate(plan).tolist()) == list(range(len(lengths)))
        assert max(map(len, plan)) <= batch_size


def test_the_plan_depends_on_seed_and_epoch_alone_case_04():
    lengths = list(range(10))
    plans = [[b.tolist() for b in plan_epoch(lengths, batch_size=3, window=2, seed=17, epoch=e)] for e in (0, 1, 2)]
    again = [[b.tolist() for b in plan_epoch(lengths, batch_size=3, window=2, seed=17, epoch=e)] for e in (0, 1, 2)]
    assert plans == again
    assert plans[0] != plans[1] != plans[2] != plans[0]
    assert [len(plan) for plan in plans] == [4, 4, 4]


def test_buckets_pad_little():
    lengths = np.random.default_rng(0).integers(5, 256, 3200)
    plan = plan_epoch(lengths, batch_size=32, window=50, seed=0, epoch=0)
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


BAD_RECIPES = [
    ({"student": "static", "epochs": 1, "learning_rat": 1}, "did you mean 'learning_rate'"),
    ({"student": "static", "epochs": 1, "learning_rate": 0}, "learning_rate: .*got 0"),
    ({"student": "static"}, "epochs or minutes"),
    ({"student": "static", "epochs": 1, "minutes": 1}, "epochs or minutes"),
]


@pytest.mark.parametrize(("fields", "says"), BAD_RECIPES)
def test_a_recipe_that_cannot_be_meant_is_refused(fields, says):
    with pytest.raises(RecipeError, match=says):
        make_recipe(fields)


def test_a_recipe_reads_back_equal(tmp_path):
    recipe = preset("layers:2", minutes=1.5, base='a "quoted" name')
    (tmp_path / "r.toml").write_text(recipe.to_toml())
    assert Recipe.read(tmp_path / "r.toml") == recipe
