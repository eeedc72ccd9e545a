from collections.abc import Sequence

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
    student: NDArray[np.float32],
    teacher: NDArray[np.float32],
    metric: str,
    widths: Sequence[int],
    shares: Sequence[float],
    weights: NDArray[np.float64] | None,
    unit_prefixes: bool,
    delta: float,
    threads: int = 0,
    level: str = "",
) -> tuple[float, NDArray[np.float32]]: ...
def relational_loss(
    student: NDArray[np.float32], teacher: NDArray[np.float32], exact: bool = False, threads: int = 0, level: str = ""
) -> tuple[float, NDArray[np.float32]]: ...
def listwise_kl_loss(
    student: NDArray[np.float32],
    teacher: NDArray[np.float32],
    temperature: float,
    exact: bool = False,
    threads: int = 0,
    level: str = "",
) -> tuple[float, NDArray[np.float32]]: ...
def contrastive_loss(
    student: NDArray[np.float32],
    teacher: NDArray[np.float32],
    temperature: float,
    exact: bool = False,
    threads: int = 0,
    level: str = "",
) -> tuple[float, NDArray[np.float32]]: ...
def relative_hinge(
    student: NDArray[np.float32], teacher: NDArray[np.float32], margin: float
) -> tuple[float, NDArray[np.float64]]: ...

# The encoder's rows are float32, or bfloat16 as its 16 bits; whatever is named out, kept, sums or gradient_ is written.
Rows = NDArray[np.float32] | NDArray[np.uint16]

def attend(
    qkv: Rows,
    bias: NDArray[np.float32],
    starts: NDArray[np.int64],
    heads: int,
    out: Rows,
    kept: NDArray[np.float32],
    threads: int = 0,
    level: str = "",
) -> None: ...
def attend_backward(
    qkv: Rows,
    bias: NDArray[np.float32],
    starts: NDArray[np.int64],
    heads: int,
    out: Rows,
    kept: NDArray[np.float32],
    gradient: Rows,
    gradient_qkv: Rows,
    threads: int = 0,
    level: str = "",
) -> None: ...
def gelu(in_: Rows, bias: NDArray[np.float32], out: Rows, threads: int = 0, level: str = "") -> None: ...
def normalize(
    in_: Rows,
    bias: NDArray[np.float32] | None,
    residual: Rows | None,
    scale: NDArray[np.float32],
    shift: NDArray[np.float32],
    epsilon: float,
    out: Rows,
    threads: int = 0,
    level: str = "",
) -> None: ...
def normalize_backward(
    in_: Rows,
    bias: NDArray[np.float32] | None,
    residual: Rows | None,
    scale: NDArray[np.float32],
    shift: NDArray[np.float32],
    epsilon: float,
    gradient: Rows,
    more: Rows | None,
    gradient_in: Rows,
    gradient_scale: NDArray[np.float32],
    gradient_shift: NDArray[np.float32],
    threads: int = 0,
    level: str = "",
) -> None: ...
def transpose(
    in_: Rows, factor: Rows | None, out: Rows, sums: NDArray[np.float32], threads: int = 0, level: str = ""
) -> None: ...
def pool(
    in_: Rows,
    starts: NDArray[np.int64],
    mean: bool,
    out: NDArray[np.float32],
    threads: int = 0,
    level: str = "",
) -> None: ...
def pool_backward(
    gradient: NDArray[np.float32],
    starts: NDArray[np.int64],
    mean: bool,
    gradient_in: Rows,
    threads: int = 0,
    level: str = "",
) -> None: ...
