import json

import numpy as np
import pytest

from leafkit.errors import CorruptData, SpaceMismatch, UsageError
from leafkit.space import EmbeddingSpace, Prompts, TeacherId

SPACE = EmbeddingSpace(TeacherId("tiny", "r1"), dim=4, normalized=True, prompts=Prompts("find: ", ""))


def test_a_space_reads_back_equal_and_keeps_its_id():
    value = json.loads(json.dumps(SPACE.to_json()))
    assert EmbeddingSpace.from_json(value, source="here") == SPACE
    assert value["id"] == SPACE.id


def test_a_changed_field_under_an_old_id_is_refused():
    value = SPACE.to_json() | {"dim": 5}
    with pytest.raises(CorruptData, match="space id"):
        EmbeddingSpace.from_json(value, source="here")


def test_differing_fields_stand_side_by_side_case_18(cases):
    case = cases / "18-versions-and-spaces"
    a, b = (
        EmbeddingSpace.from_json(json.loads((case / f"space_{name}.json").read_text()), source=name) for name in "ab"
    )
    expected = json.loads((case / "expected.json").read_text())["differing_fields"]
    assert sorted(a.differences(b)) == sorted(expected)
    with pytest.raises(SpaceMismatch, match="query='find: ', document='' .* query='find:', document=''"):
        a.require_compatible(b)


def test_where_vectors_came_from_does_not_part_spaces():
    imported = EmbeddingSpace(TeacherId("tiny", "r1"), 4, True, prompts=Prompts("find: ", ""), origin="imported")
    assert imported.id == SPACE.id
    imported.require_compatible(SPACE)


@pytest.mark.parametrize("width", [0, -1, 5])
def test_a_prefix_outside_the_vector_is_refused(width):
    with pytest.raises(UsageError, match="between 1 and 4"):
        SPACE.at(width)


BAD_ROWS = [([np.nan, 0, 0, 1], "NaN"), ([np.inf, 0, 0, 0], "infinite"), ([0.3, 0, 0, 0], "norm 0.3, expected 1")]


@pytest.mark.parametrize(("row", "says"), BAD_ROWS)
def test_the_first_row_that_is_no_vector_is_named(row, says):
    rows = np.array([[1, 0, 0, 0], [0, 1, 0, 0], row, row], dtype=np.float32)
    number, reason = SPACE.first_bad_row(rows)
    assert number == 2
    assert says in reason


def test_a_bad_row_far_down_is_named_by_its_number():
    vectors = np.tile(np.eye(4, dtype=np.float32)[:1], (40_000, 1))
    vectors[33_333, 1] = np.inf
    assert SPACE.first_bad_row(vectors) == (33_333, "holds an infinite value")
