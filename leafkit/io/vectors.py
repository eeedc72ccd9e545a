"""Matrices of vectors in files: NumPy's .npy, mapped read-only, and parquet columns of lists."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from leafkit.errors import CorruptData, InputError

FLOATS = ("float16", "float32", "float64")


def read_vectors(path: str | Path) -> NDArray[np.floating[Any]]:
    """Read (rows, dim) float vectors.

    Args:
        path: .npy, or .parquet with one column of lists.

    Raises:
        InputError: another form or dtype, or rows of different widths.
        CorruptData: the file is shorter or longer than it says itself.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError("there is no such file", path=file)
    if file.suffix == ".npy":
        vectors = read_npy(file)
        return _single(vectors, file) if vectors.dtype == np.float64 else vectors
    if file.suffix == ".parquet":
        return _parquet_column(file)
    raise InputError(f"vectors are read from .npy and .parquet, not {file.suffix!r}", path=file)


def read_npy(path: Path) -> NDArray[np.floating[Any]]:
    """Map a matrix of floats read-only, after comparing the file's length with its header.

    Raises:
        CorruptData: no whole header, or another length than it states; says both.
        InputError: not two-dimensional, or no float dtype.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            version = npy.read_magic(file)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, fortran, dtype = read(file)
        except (ValueError, EOFError) as exc:
            raise CorruptData(path, expected="a whole .npy header", found=f"{size} bytes ({exc})") from exc
        start = file.tell()
    if dtype.name not in FLOATS or not dtype.isnative:
        raise InputError(
            f"holds {dtype.name} ({dtype.str}), expected {', '.join(FLOATS)} as this CPU has it", path=path
        )
    if len(shape) != 2:
        raise InputError(f"has shape {shape}, expected two dimensions (rows, dim)", path=path)
    expected = start + dtype.itemsize * shape[0] * shape[1]
    if size != expected:
        raise CorruptData(path, expected=f"{expected} bytes for shape {shape} of {dtype.name}", found=f"{size} bytes")
    if 0 in shape:
        return np.empty(shape, dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=start, shape=shape, order="F" if fortran else "C")


def _parquet_column(path: Path) -> NDArray[np.floating[Any]]:
    import pyarrow as pa  # 0.1 s
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as exc:
        raise CorruptData(path, expected="parquet", found=str(exc).splitlines()[0]) from exc
    lists = [f.name for f in table.schema if pa.types.is_list(f.type) or pa.types.is_large_list(f.type)
             or pa.types.is_fixed_size_list(f.type)]  # fmt: skip
    if len(lists) != 1:
        found = ", ".join(lists) or "none"
        raise InputError(f"expected one column of lists, the vectors, found {found}: write a file with one", path=path)
    (name,) = lists
    values = table[name].combine_chunks()
    inner = values.type.value_type
    if not pa.types.is_floating(inner):
        raise InputError(f"column {name!r} holds lists of {inner}, expected floats", path=path)
    if values.null_count:
        raise InputError(f"column {name!r} has {values.null_count} rows without a vector", path=path)
    flat = values.flatten().to_numpy(zero_copy_only=False)
    if len(values) == 0 or len(flat) % len(values):
        raise InputError(f"column {name!r} has {len(flat)} numbers in {len(values)} rows: widths differ", path=path)
    width = len(flat) // len(values)
    widths = {len(row) for row in values}
    if widths != {width}:
        raise InputError(f"column {name!r} has rows of widths {sorted(widths)[:5]}: one width expected", path=path)
    matrix = flat.reshape(len(values), width)
    return _single(matrix, path) if matrix.dtype == np.float64 else np.asarray(matrix)


def _single(vectors: NDArray[Any], path: Path) -> NDArray[np.floating[Any]]:
    warnings.warn(f"{path}: float64 vectors are read as float32, 29 bits of precision are lost", stacklevel=4)
    return vectors.astype(np.float32)
