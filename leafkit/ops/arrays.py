"""Arrays at the edge of the operations: NumPy, torch CPU tensors and DLPack in, without copies where it can be."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leafkit.errors import ShapeMismatch


def as_matrix(value: Any, name: str) -> NDArray[np.float32]:
    """Give a float32 matrix with adjacent columns; ``name`` stands in the errors.

    Raises:
        ShapeMismatch: not two-dimensional.
        TypeError: no array, not float32, or not on the CPU.
    """
    array = to_numpy(value, name)
    if array.dtype != np.float32:
        raise TypeError(f"{name} are {array.dtype}, expected float32: convert them, so that the rounding is yours")
    if array.ndim != 2:
        raise ShapeMismatch(f"{name} must be a matrix (rows, dim), got shape {array.shape}")
    if array.size and not _usable(array):
        warnings.warn(
            f"{name} of shape {array.shape} with strides {array.strides} are copied ({array.nbytes / 2**20:.1f} MiB):"
            " rows with adjacent columns are read in place",
            stacklevel=3,
        )
        return np.ascontiguousarray(array)
    return array


def is_torch(value: object) -> bool:
    """Whether a value is a torch tensor; never imports torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _usable(array: NDArray[Any]) -> bool:
    rows, columns = array.strides
    return (columns == 4 or array.shape[1] == 1) and rows >= 0 and rows % 4 == 0 and array.flags.aligned


def to_numpy(value: Any, name: str) -> NDArray[Any]:
    """Give a NumPy view of an array on the CPU, of any type and shape."""
    if isinstance(value, np.ndarray):
        return value
    if is_torch(value):
        if value.device.type != "cpu":
            raise TypeError(f"{name} are on {value.device}, expected the CPU: move them with .cpu()")
        array: NDArray[Any] = value.detach().numpy()
        return array
    if hasattr(value, "__dlpack__"):
        return np.from_dlpack(value)
    raise TypeError(f"{name} are {type(value).__name__}, expected a NumPy array, a torch CPU tensor or DLPack")
