import importlib.util
import os
from pathlib import Path

import pytest

from tests.cuda.build import COMPILER, build, load


@pytest.fixture(scope="session")
def emulation():
    """The kernels on the emulation."""
    if COMPILER is None or importlib.util.find_spec("pybind11") is None:
        pytest.skip("no C++ compiler, or no pybind11, to build the emulation with")
    given = os.environ.get("LEAFKIT_EMULATION")  # a module with a planted fault
    return load(Path(given) if given else build(sanitize=os.environ.get("LEAFKIT_SANITIZE") == "address"))


@pytest.fixture
def cuda(emulation, monkeypatch):
    """``leafkit.ops.cuda`` with the emulation for its module and CPU tensors for a GPU's."""
    pytest.importorskip("torch", reason="torch is not installed (extra: train)")
    from leafkit.ops import cuda

    monkeypatch.setattr(cuda, "_C", emulation)
    monkeypatch.setattr(cuda, "DEVICE", "cpu")
    plain = cuda._memory
    monkeypatch.setattr(cuda, "_memory", lambda size, like: plain(size, like).fill_(255))  # NaN, or -1
    return cuda
