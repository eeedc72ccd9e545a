import numpy as np
from numpy.typing import NDArray

def levels() -> list[str]: ...
def default_level() -> str: ...
def cpu_features() -> list[str]: ...

class Packed:
    @property
    def count(self) -> int: ...
    @property
    def dim(self) -> int: ...
    @property
    def nbytes(self) -> int: ...

def pack_documents(
    documents: NDArray[np.float32] | None,
    type: str,
    dim_scale: NDArray[np.float32] | None = None,
    threads: int = 0,
    halves: NDArray[np.uint16] | None = None,
    halves_type: str = "bfloat16",
    level: str = "",
) -> Packed: ...
def search_topk(
    queries: NDArray[np.float32],
    documents: NDArray[np.float32] | None,
    packed: Packed | None,
    k: int,
    answer: str,
    overfetch: int = 1,
    allowed: NDArray[np.uint64] | None = None,
    threads: int = 0,
    halves: NDArray[np.uint16] | None = None,
    halves_type: str = "bfloat16",
    level: str = "",
) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...
def alignment_loss(
    student: NDArray[np.float32], teacher: NDArray[np.float32], metric: str, threads: int = 0, level: str = ""
) -> tuple[float, NDArray[np.float32]]: ...
