import json

import numpy as np
import pytest

from leafkit.errors import CorruptData, InputError
from leafkit.io import read_vectors


def test_a_file_of_another_length_than_its_header_says_is_refused_case_16(cases):
    case = cases / "16-truncated-vectors"
    expected = json.loads((case / "expected.json").read_text())
    assert read_vectors(case / "whole.npy").shape == (10, 4)
    for name, found in expected["found"].items():
        if name != "whole.npy":
            with pytest.raises(CorruptData, match=rf"found {found} bytes") as caught:
                read_vectors(case / name)
            assert caught.value.exit_code == 3


def test_list_columns_of_floats_are_read_and_others_refused_case_35(cases):
    case = cases / "35-vector-columns-in-parquet"
    expected = json.loads((case / "expected.json").read_text())["vectors"]
    for name in ("fixed_float32", "list_float32", "fixed_float16"):
        assert read_vectors(case / f"{name}.parquet").tolist() == expected
    with pytest.warns(UserWarning, match="float64 vectors are read as float32"):
        assert read_vectors(case / "large_list_float64.parquet").tolist() == expected
    with pytest.raises(InputError, match="int64, expected floats"):
        read_vectors(case / "list_int64.parquet")


def test_a_map_is_read_only_and_other_dtypes_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((2, 3), np.float32))
    assert not read_vectors(tmp_path / "a.npy").flags.writeable
    np.save(tmp_path / "i.npy", np.ones((2, 3), np.int64))
    with pytest.raises(InputError, match="holds int64 .* expected float16"):
        read_vectors(tmp_path / "i.npy")
    np.save(tmp_path / "f.npy", np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)))
    assert read_vectors(tmp_path / "f.npy").tolist() == [[0, 1, 2], [3, 4, 5]]
