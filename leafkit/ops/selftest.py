"""A check that an installation computes what it should: every CPU level, and a GPU, against NumPy in float64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leafkit.ops import numpy_losses
from leafkit.ops.backend import _C, describe

PRECISIONS = ("float32", "bfloat16", "float16", "int8", "binary")
QUERIES, DOCUMENTS, DIM, BATCH = 40, 3001, 130, 300
TEMPERATURE = 0.05
WIDTHS, SHARES = [64, DIM], [0.5, 0.5]


@dataclass(frozen=True)
class Check:
    """One comparison.

    Attributes:
        name: what was computed, and where.
        error: of the gradient relative to its length, or of the best score that was missed.
        bound: what it may be.
    """

    name: str
    error: float
    bound: float

    @property
    def passed(self) -> bool:
        """Whether the error is a number within its bound."""
        return self.error <= self.bound


def check_cpu() -> Iterator[Check]:
    """Check the operations at every level that this CPU has; nothing where nothing was compiled."""
    data = _Data()
    for level in describe().levels:
        native: Any = _C
        for precision in PRECISIONS:
            if precision == "float32":
                found = native.search_topk(
                    data.queries, data.documents, None, 10, "exact", 1, None, 1, None, "bfloat16", level=level
                )
            else:
                codes = native.pack_documents(data.documents, precision, None, 1, None, "bfloat16", level=level)
                found = native.search_topk(
                    data.queries, None, codes, 10, "own", 1, None, 1, None, "bfloat16", level=level
                )
            yield data.search(f"search {precision} on the CPU, {level}", precision, found[1])
        for loss, expected in data.losses():
            yield data.gradient(f"{loss} on the CPU, {level}", expected, _cpu_gradient(loss, data, level), 1e-4)


def check_cuda() -> Iterator[Check]:
    """Check the kernels on the current GPU.

    Raises:
        DeviceError: there is no module of kernels, or no device that they run on.
    """
    import torch

    from leafkit.ops import cuda

    data = _Data()
    queries, documents, student, teacher = (
        torch.from_numpy(x).to(cuda.DEVICE) for x in (data.queries, data.documents, data.student, data.teacher)
    )
    for precision in PRECISIONS:
        for unit in (False, True):
            codes = cuda.pack_documents(documents, precision)
            rows = cuda.search_topk(queries, codes, 10, matrix_unit=unit)[1]
            where = "the matrix unit" if unit else "the vector units"
            if not unit or precision in ("bfloat16", "float16", "int8"):
                yield data.search(f"search {precision} on the GPU, {where}", precision, rows.cpu().numpy())
    for loss, expected in data.losses():
        if loss == "alignment":
            gradient = cuda.alignment_loss(student, teacher, "cosine", WIDTHS, SHARES, None, True, 1.0)[1]
            yield data.gradient("alignment on the GPU", expected, gradient.cpu().numpy(), 1e-4)
            continue
        for exact in (True, False):
            gradient = cuda.batch_loss(loss, student, teacher, TEMPERATURE, exact)[1]
            name = f"{loss} on the GPU, products in {'float32' if exact else 'bfloat16'}"
            yield data.gradient(name, expected, gradient.cpu().numpy(), 1e-4 if exact else 2e-2)


def _cpu_gradient(loss: str, data: _Data, level: str) -> NDArray[np.float32]:
    native: Any = _C
    sides = data.student, data.teacher
    if loss == "alignment":
        made = native.alignment_loss(*sides, "cosine", WIDTHS, SHARES, None, True, 1.0, 1, level=level)
    elif loss == "relational":
        made = native.relational_loss(*sides, True, 1, level=level)
    else:
        made = getattr(native, f"{loss}_loss")(*sides, TEMPERATURE, True, 1, level=level)
    gradient: NDArray[np.float32] = made[1]
    return gradient


class _Data:
    """Inputs, and what is right for them."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.queries, self.documents = (_unit(random.normal(size=(rows, DIM))) for rows in (QUERIES, DOCUMENTS))
        self.teacher = _unit(random.normal(size=(BATCH, DIM)))
        self.student = _unit(self.teacher + 0.05 * random.normal(size=(BATCH, DIM)))

    def search(self, name: str, precision: str, rows: NDArray[np.int64]) -> Check:
        """By how much the worst of the rows found is below the tenth best, in the precision's own noise."""
        scores = self.queries.astype(np.float64) @ self.documents.T.astype(np.float64)
        if precision == "binary":
            signs = [np.where(x > 0, 1.0, -1.0) for x in (self.queries, self.documents)]
            scores = signs[0] @ signs[1].T
        tenth = np.sort(scores, axis=1)[:, -10]
        worst = np.take_along_axis(scores, rows, axis=1).min(axis=1)
        noise = {"float32": 0.0, "bfloat16": 2e-3, "float16": 5e-4, "int8": 1e-2, "binary": 0.0}[precision]
        return Check(name, float((tenth - worst).max()), noise)

    def losses(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Every loss with its gradient."""
        s, t = self.student, self.teacher
        yield "alignment", numpy_losses.alignment_loss(s, t, "cosine", WIDTHS, SHARES, None, True, 1.0)[1]
        yield "relational", numpy_losses.relational_loss(s, t, True)[1]
        yield "listwise_kl", numpy_losses.listwise_kl_loss(s, t, TEMPERATURE, True)[1]
        yield "contrastive", numpy_losses.contrastive_loss(s, t, TEMPERATURE, True)[1]

    @staticmethod
    def gradient(name: str, expected: NDArray[np.float32], found: NDArray[np.float32], bound: float) -> Check:
        """The error relative to the gradient's length."""
        return Check(name, float(np.linalg.norm(found - expected) / np.linalg.norm(expected)), bound)


def _unit(x: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), dtype=np.float32)
