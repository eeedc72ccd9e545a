"""Arrays at the edge of the operations: NumPy, torch CPU tensors and DLPack in, without copies where it can be."""

from __future__ import annotations

import sys
import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from leafkit.errors import ShapeMismatch


def as_matrix(value: Any, name: str) -> NDArray[np.float32]:
    """Give a float32 matrix with adjacent columns; ``name`` stands in the errors.

    Raises:
        ShapeMismatch: not two-dimensional.
        TypeError: no array, not float32, or not on the CPU.
        ValueError: the values do not begin at a multiple of 4 bytes.
    """
    array = to_numpy(value, name)
    if array.dtype != np.float32:
        halves = ", or pack documents as 'float16'" if array.dtype == np.float16 else ", so that the rounding is yours"
        raise TypeError(f"{name} are {array.dtype}, expected float32: convert them{halves}")
    if array.ndim != 2:
        raise ShapeMismatch(f"{name} must be a matrix (rows, dim), got shape {array.shape}")
    check_aligned(array, name)
    if array.size and not _usable(array):
        warnings.warn(
            f"{name} of shape {array.shape} with strides {array.strides} are copied ({array.nbytes / 2**20:.1f} MiB):"
            " rows with adjacent columns are read in place",
            stacklevel=3,
        )
        return np.ascontiguousarray(array)
    return array


class FloatRows(NamedTuple):
    """Rows of one of three float types: ``wide`` is there, or ``halves``."""

    wide: NDArray[np.float32] | None
    halves: NDArray[np.uint16] | None
    dtype: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and their width."""
        held = self.halves if self.wide is None else self.wide
        assert held is not None
        return held.shape


def as_rows(value: Any, name: str) -> FloatRows:
    """Give rows of float32, or the bits of float16 or bfloat16 in 16-bit integers.

    Raises:
        ShapeMismatch: not two-dimensional.
        TypeError: another dtype, or not on the CPU.
        ValueError: 16-bit values that are misaligned, or rows whose columns are not adjacent.
    """
    bits, dtype = value, ""
    if is_torch(value) and str(value.dtype) == "torch.bfloat16":
        bits, dtype = value.detach().view(sys.modules["torch"].int16), "bfloat16"
    array = to_numpy(bits, name)
    if array.dtype == np.float16:
        dtype = "float16"
    if not dtype:
        if array.dtype != np.float32:
            raise TypeError(f"{name} are {array.dtype}, expected float32, float16 or torch.bfloat16")
        return FloatRows(as_matrix(array, name), None, "float32")
    if array.ndim != 2:
        raise ShapeMismatch(f"{name} must be a matrix (rows, dim), got shape {array.shape}")
    check_aligned(array, name)
    if array.size and not _usable(array):
        raise ValueError(f"{name} of shape {array.shape} have strides {array.strides}, expected adjacent columns")
    return FloatRows(None, array.view(np.uint16), dtype)


def check_aligned(array: NDArray[Any], name: str) -> None:
    """Refuse values that begin where the processor does not read them, as a file mapped at an odd place has them."""
    if array.size and not array.flags.aligned:
        start, item = array.__array_interface__["data"][0] % array.itemsize, array.itemsize
        raise ValueError(
            f"{name} begin {start} bytes past a multiple of {item} (strides {array.strides}), {array.dtype} needs"
            f" multiples of {item}: map the file at such a place, or copy the array"
        )


def is_torch(value: object) -> bool:
    """Whether a value is a torch tensor; never imports torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


CUDA = 2  # DLPack's number of the device


def gpu_tensor(value: Any) -> Any:
    """Give the torch tensor of an array on a CUDA device, torch's own or another's by DLPack; None for all others."""
    if is_torch(value):
        return value if value.is_cuda else None
    if isinstance(value, np.ndarray) or not hasattr(value, "__dlpack_device__") or value.__dlpack_device__()[0] != CUDA:
        return None
    import torch

    return torch.utils.dlpack.from_dlpack(value)


def _usable(array: NDArray[Any]) -> bool:
    rows, columns = array.strides
    item = array.itemsize
    return (columns == item or array.shape[1] == 1) and rows >= 0 and rows % item == 0


def to_numpy(value: Any, name: str) -> NDArray[Any]:
    """Give a NumPy view of an array on the CPU, of any type and shape."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} are a masked array, expected one without a mask: fill it")
    if isinstance(value, np.ndarray):
        return value
    try:
        if is_torch(value):
            if value.device.type != "cpu":
                raise TypeError(f"{name} are on {value.device}, expected the CPU: move them with .cpu()")
            array: NDArray[Any] = value.detach().resolve_neg().numpy()
            return array
        if hasattr(value, "__dlpack__"):
            return np.from_dlpack(value)
    except (TypeError, RuntimeError, BufferError) as exc:
        kind = getattr(value, "dtype", type(value).__name__)
        raise TypeError(f"{name} are {kind}, which NumPy cannot view: convert them to float32 ({exc})") from None
    raise TypeError(f"{name} are {type(value).__name__}, expected a NumPy array, a torch CPU tensor or DLPack")
