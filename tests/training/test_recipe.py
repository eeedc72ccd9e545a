from dataclasses import replace

import pytest

from leafkit.errors import RecipeError
from leafkit.space import EmbeddingSpace, TeacherId
from leafkit.training import Recipe, Source, preset
from leafkit.training.recipe import make_recipe

BAD_RECIPES = [
    ({"student": "static", "epochs": 1, "learning_rat": 1}, "no field 'learning_rat'; did you mean 'learning_rate'"),
    ({"student": "static", "epochs": 1, "gates": {"evry": 5}}, "no field 'gates.evry'; did you mean 'every'"),
    (
        {"student": "static", "epochs": 1, "data": [{"store": "s", "kind": "query"}]},
        r"data.0.kind'; did you mean 'kinds'",
    ),
    ({"student": "static", "epochs": 1, "learning_rate": 0}, "learning_rate: .*greater than 0.*got 0"),
    ({"student": "static", "epochs": 1, "data": ["s", {"store": "t", "weight": 0}]}, "data.1.weight: .*got 0"),
    ({"student": "static", "epochs": 1, "data": [{"store": "t", "kinds": []}]}, "data.0.kinds"),
    ({"student": "static", "epochs": 1, "data": "s"}, r"data is one path, expected a list of them: \['s'\]"),
    ({"student": "static", "epochs": 1, "data": {"store": "s"}}, r"data is one table, .*write \[\[data\]\]"),
    ({"student": "static", "epochs": 1, "data": 5}, "data is 5, expected a list"),
    ({"student": "static", "epochs": 1, "cycles": 3, "warmup": 0.4}, "warmup 0.4 is no part of the first of 3 cycles"),
    ({"student": "static", "epochs": 1, "kind_weights": {"query": 0, "document": 0}}, "nothing would be learned"),
    (
        {
            "student": "static",
            "epochs": 1,
            "kind_weights": {"query": 0},
            "data": [{"store": "s", "kinds": ["query"]}],
        },
        "kind_weights are 0 for query: nothing would be learned",
    ),
    ({"student": "static", "epochs": 1, "ema": 1.0}, "ema: .*less than 1"),
    ({"student": "layers:1", "epochs": 1, "whitened": "half"}, "whitened: .*boolean"),
    ({"student": "static"}, "epochs or minutes"),
    ({"student": "static", "epochs": 1, "minutes": 1}, "epochs or minutes"),
    ({"epochs": 1}, "student is missing"),
]


@pytest.mark.parametrize(("fields", "says"), BAD_RECIPES)
def test_a_recipe_that_cannot_be_meant_is_refused(fields, says):
    with pytest.raises(RecipeError, match=says):
        make_recipe(fields)


def test_a_recipe_reads_back_equal(tmp_path):
    recipe = preset(
        "layers:2", "fast", minutes=1.5, base='a "quoted" name', prefixes=[64, 128], rotate="pca", ema=0.99,
        data=["one.store", {"store": "two.store", "weight": 0.5, "kinds": ["query"]}],
        gates={"every": 100, "development": "scifact"}, kind_weights={"query": 2.0},
    )  # fmt: skip
    (tmp_path / "r.toml").write_text(recipe.to_toml())
    assert Recipe.read(tmp_path / "r.toml") == recipe
    assert recipe.data[0] == Source(store="one.store")


def test_a_file_may_name_a_preset_and_its_own_length_goes_first(tmp_path):
    (tmp_path / "r.toml").write_text('preset = "fast"\nstudent = "layers:3"\nepochs = 2\n')
    assert Recipe.read(tmp_path / "r.toml") == preset("layers:3", "fast", epochs=2)
    assert preset("layers:3", "fast", epochs=2).minutes is None
    (tmp_path / "r.toml").write_text('preset = "fats"\nstudent = "layers:3"\n')
    with pytest.raises(RecipeError, match="no preset 'fats': expected one of leaf, fast, static"):
        Recipe.read(tmp_path / "r.toml")


def test_the_default_is_leafs_recipe():
    recipe = preset("layers:6")
    assert (recipe.batch_size, recipe.epochs, recipe.cycles, recipe.learning_rate) == (32, 30, 3, 1e-4)
    assert recipe.whitened is False
    assert preset("static").batch_size == 256


def test_a_student_is_whitened_where_all_vectors_have_one_length():
    space = EmbeddingSpace(TeacherId("teacher", "1"), 8, True, "cosine")
    fast, leaf = preset("layers:6", "fast"), preset("layers:6")
    assert (fast.whitens(space), leaf.whitens(space)) == (True, False)
    longs = replace(space, normalized=False, similarity="dot")
    assert not fast.whitens(longs)


def test_where_the_data_lie_is_no_part_of_a_recipes_identity():
    one, other = (preset("layers:1", epochs=1, data=[name]) for name in ("a", "b"))
    assert one.hash == other.hash
    assert one.hash != preset("layers:1", epochs=1, data=[{"store": "a", "weight": 2}]).hash
