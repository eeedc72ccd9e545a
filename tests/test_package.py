import importlib
import subprocess
import sys

import pytest

import leafkit


def test_importing_leafkit_loads_neither_torch_nor_pyarrow():
    code = "import sys, leafkit; print(*(set(sys.modules) & {'torch', 'pyarrow', 'numpy', 'transformers'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_all_names_are_public_and_load():
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed (extra: train)")
    assert sorted(leafkit._HOME) == sorted(leafkit.__all__)
    for name in leafkit.__all__:
        assert getattr(leafkit, name) is not None


def test_every_error_has_an_exit_code_and_a_built_in_parent():
    errors = importlib.import_module("leafkit.errors")
    classes = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.LeafkitError)]
    for error in set(classes) - {errors.LeafkitError}:
        assert error.exit_code in (2, 3, 4, 5, 143)
        assert issubclass(error, (ValueError, OSError, RuntimeError, ImportError))
    assert len(classes) > 10
