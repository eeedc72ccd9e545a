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
def emulated(emulation, monkeypatch):
    """``leafkit.ops.cuda`` with the emulation for its module and CPU tensors for a GPU's."""
    pytest.importorskip("torch", reason="torch is not installed (extra: train)")
    from leafkit.ops import cuda

    monkeypatch.setattr(cuda, "_C", emulation)
    monkeypatch.setattr(cuda, "DEVICE", "cpu")
    plain = cuda._memory
    monkeypatch.setattr(cuda, "_memory", lambda size, like: plain(size, like).fill_(255))  # NaN, or -1
    return cuda


@pytest.fixture
def on_gpu():
    """``leafkit.ops.cuda`` as it is, and tensors that are made on the GPU."""
    torch = pytest.importorskip("torch", reason="torch is not installed (extra: train)")
    from leafkit.ops import cuda

    if not (torch.cuda.is_available() and cuda.takes(torch.ones(1, 1, device="cuda"))):
        pytest.skip("no GPU, or leafkit was built without its CUDA module (leafkit info says which)")
    with torch.device("cuda"):
        yield cuda


@pytest.fixture(params=["emulated", pytest.param("on_gpu", marks=pytest.mark.gpu)])
def cuda(request):
    """The kernels on the emulation, and, with ``-m gpu``, on a GPU."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def order_threads(request):
    """Chooses the order of threads where there is an order to choose."""
    on = request.node.callspec.params["cuda"]
    return request.getfixturevalue("emulation").set_seed if on == "emulated" else lambda seed: None
