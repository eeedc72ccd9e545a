"""Which code answers: the native module, or NumPy where nothing was compiled; and with how many threads."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from leafkit.errors import UsageError
from leafkit.ops import numpy_backend

_C: ModuleType | None
try:
    from leafkit import _C
except ImportError as exc:
    _C, _WHY_NOT = None, str(exc)
else:
    _WHY_NOT = ""


MOST_THREADS = 4096


class Backend(Protocol):
    """The operations on checked arrays."""

    def pack_documents(
        self,
        documents: NDArray[np.float32] | None,
        type: str,
        dim_scale: NDArray[np.float32] | None,
        threads: int,
        halves: NDArray[np.uint16] | None,
        halves_type: str,
    ) -> Any:
        """Codes of the documents (or of halves), with ``count``, ``dim`` and ``nbytes``."""
        ...

    def search_topk(
        self,
        queries: NDArray[np.float32],
        documents: NDArray[np.float32] | None,
        packed: Any,
        k: int,
        answer: str,
        overfetch: int,
        allowed: NDArray[np.uint64] | None,
        threads: int,
        halves: NDArray[np.uint16] | None,
        halves_type: str,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and rows, (Q, min(k, N)); ``answer`` is own, exact or rescored (from documents, or from halves)."""
        ...

    def alignment_loss(
        self,
        student: NDArray[np.float32],
        teacher: NDArray[np.float32],
        metric: str,
        widths: Sequence[int],
        shares: Sequence[float],
        weights: NDArray[np.float64] | None,
        unit_prefixes: bool,
        delta: float,
        threads: int,
    ) -> tuple[float, NDArray[np.float32]]:
        """Value and gradient."""
        ...

    def relational_loss(
        self, student: NDArray[np.float32], teacher: NDArray[np.float32], exact: bool, threads: int
    ) -> tuple[float, NDArray[np.float32]]:
        """Value and gradient."""
        ...

    def listwise_kl_loss(
        self, student: NDArray[np.float32], teacher: NDArray[np.float32], temperature: float, exact: bool, threads: int
    ) -> tuple[float, NDArray[np.float32]]:
        """Value and gradient."""
        ...

    def contrastive_loss(
        self, student: NDArray[np.float32], teacher: NDArray[np.float32], temperature: float, exact: bool, threads: int
    ) -> tuple[float, NDArray[np.float32]]:
        """Value and gradient."""
        ...

    def relative_hinge(
        self, student: NDArray[np.float32], teacher: NDArray[np.float32], margin: float
    ) -> tuple[float, NDArray[np.float64]]:
        """Value, and slope in every student score."""
        ...


@dataclass(frozen=True)
class Description:
    """What ``leafkit info`` says of the operations."""

    backend: str
    reason: str
    level: str
    levels: tuple[str, ...]
    cpu_features: tuple[str, ...]
    threads: int


def backend() -> Backend:
    """Give the code that answers; LEAFKIT_NATIVE=0 forces NumPy.

    Raises:
        UsageError: LEAFKIT_CPU_LEVEL is a level that cannot run here.
    """
    if _C is None or os.environ.get("LEAFKIT_NATIVE") == "0":
        return cast(Backend, numpy_backend)
    _check_level(_C)
    return cast(Backend, _C)


def holder(codes: Any) -> Backend:
    """Give the code that packed these documents: the other cannot read them."""
    return cast(Backend, numpy_backend) if isinstance(codes, numpy_backend.Codes) else cast(Backend, _C)


def _check_level(native: ModuleType) -> None:
    forced = os.environ.get("LEAFKIT_CPU_LEVEL")
    if forced and forced not in native.levels():
        raise UsageError(f"LEAFKIT_CPU_LEVEL={forced}: this CPU and build have {', '.join(native.levels())}")


def threads() -> int:
    """Threads of a call: LEAFKIT_NUM_THREADS, else torch's setting where torch is loaded, else the CPUs we may use.

    Raises:
        UsageError: LEAFKIT_NUM_THREADS is no number from 1 to 4,096.
    """
    given = os.environ.get("LEAFKIT_NUM_THREADS")
    if given:
        if not (given.isascii() and given.isdigit()) or not 1 <= int(given) <= MOST_THREADS:
            raise UsageError(f"LEAFKIT_NUM_THREADS={given!r}: expected a number from 1 to {MOST_THREADS}")
        return int(given)
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads"):
        return int(torch.get_num_threads())
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe() -> Description:
    """Say which code answers and why."""
    if _C is None:
        return Description("numpy", f"the native module was not built: {_WHY_NOT}", "none", (), (), threads())
    features = tuple(_C.cpu_features())
    if os.environ.get("LEAFKIT_NATIVE") == "0":
        return Description("numpy", "LEAFKIT_NATIVE=0", "none", tuple(_C.levels()), features, threads())
    _check_level(_C)
    forced = os.environ.get("LEAFKIT_CPU_LEVEL")
    reason = f"LEAFKIT_CPU_LEVEL={forced}" if forced else "the best level that this CPU has"
    return Description("native", reason, _C.default_level(), tuple(_C.levels()), features, threads())


@dataclass(frozen=True)
class CudaState:
    """What ``leafkit info`` says of GPUs: not built, no driver, driver too old, no device, device too old or ready."""

    state: str
    detail: str


def load_cuda() -> tuple[ModuleType | None, str]:
    """Give the module of CUDA kernels, or why there is none."""
    try:
        from leafkit import _C_cuda
    except ImportError as exc:
        return None, str(exc)
    return cast(ModuleType, _C_cuda), ""


LEAST_CAPABILITY = (8, 0)


def describe_cuda() -> CudaState:
    """Say whether the CUDA kernels can run here, and if not, what is missing."""
    module, why_not = load_cuda()
    if module is None:
        return CudaState("not built", f"{why_not}; `make cuda`, or LEAFKIT_CUDA=1 when installing")
    return state_of(module.state())


def state_of(told: dict[str, Any]) -> CudaState:
    """Read what the module says of driver and devices."""
    built = f"built with CUDA {_cuda_version(told['runtime'])} for {told['architectures']}"
    if not told["driver"]:
        return CudaState("no driver", f"libcuda.so.1 was not found; {built}")
    driver = f"the driver has CUDA {_cuda_version(told['driver'])}"
    if told["error"] == "cudaErrorInsufficientDriver":
        return CudaState("driver too old", f"{driver}; {built}")
    if told["error"] or not told["devices"]:
        return CudaState("no device", f"{told['error'] or 'none is visible'}; {driver}; {built}")
    devices = ", ".join(
        f"{name} ({major}.{minor}, {bytes_ / 2**30:.0f} GiB)" for name, major, minor, bytes_ in told["devices"]
    )
    if all((major, minor) < LEAST_CAPABILITY for _, major, minor, _ in told["devices"]):
        return CudaState("device too old", f"{devices}: 8.0 or newer is needed; {driver}; {built}")
    return CudaState("ready", f"{devices}; {driver}; {built}")


def _cuda_version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
