"""Rotation: an orthogonal turn of a teacher's space, after which the first dims carry most of its vectors.

Inner products at full width stay as they are; a cut to the first dims keeps the most that any rotation can keep of the
vectors it was fitted on (principal components about the origin), whether the teacher was trained for cuts or not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from leafkit.errors import CorruptData, ShapeMismatch, SpaceMismatch
from leafkit.io.atomic import new_file
from leafkit.space import EmbeddingSpace

FILE = "rotation.npy"  # in a student's folder
ORTHOGONAL = 1e-4  # largest deviation of matrix @ matrix.T from the identity that float32 explains


@dataclass(frozen=True)
class Rotation:
    """The turn: ``vectors @ matrix``; float32, (dim, dim), orthogonal."""

    matrix: NDArray[np.float32]

    @classmethod
    def fit(cls, vectors: NDArray[np.floating[Any]]) -> Rotation:
        """Turn the axes to the principal components of vectors, (n, dim), the largest first.

        Raises:
            ShapeMismatch: there are no vectors.
        """
        if vectors.ndim != 2 or not len(vectors):
            raise ShapeMismatch(f"a rotation is fitted on a matrix of vectors, got shape {vectors.shape}")
        x = np.asarray(vectors, dtype=np.float64)
        _, axes = np.linalg.eigh(x.T @ x)
        axes = axes[:, ::-1]
        signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])  # else the library's choice
        return cls(np.ascontiguousarray(axes * signs, dtype=np.float32))

    @property
    def id(self) -> str:
        """What the space records: a hash of the matrix."""
        return f"xxh3:{xxhash.xxh3_128_hexdigest(np.ascontiguousarray(self.matrix).tobytes())}"

    def turn(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn vectors: float32, (n, dim)."""
        return vectors @ self.matrix

    def space(self, space: EmbeddingSpace) -> EmbeddingSpace:
        """Give the space that the vectors of ``space`` are turned into.

        Raises:
            ShapeMismatch: the space has another width.
            SpaceMismatch: it is turned already.
        """
        if space.dim != len(self.matrix):
            raise ShapeMismatch(f"the rotation is of {len(self.matrix)} dims, the space has {space.dim}")
        if space.rotation is not None:
            raise SpaceMismatch(f"the space is turned already, by {space.rotation}: give the teacher's own vectors")
        return replace(space, rotation=self.id)

    def save(self, path: Path) -> None:
        """Write the matrix as a NumPy file, whole or not at all."""
        with new_file(path) as scratch, scratch.open("wb") as file:
            np.save(file, self.matrix)

    @classmethod
    def load(cls, path: Path, *, space: EmbeddingSpace) -> Rotation:
        """Read the rotation that ``space`` records.

        Raises:
            CorruptData: the file is no orthogonal matrix, or another rotation than the space's.
        """
        try:
            matrix = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as exc:
            raise CorruptData(path, expected="a rotation", found=repr(exc)) from exc
        square = (space.dim, space.dim)
        if matrix.dtype != np.float32 or matrix.shape != square:
            raise CorruptData(path, expected=f"float32 {square}", found=f"{matrix.dtype} {matrix.shape}")
        rotation = cls(matrix)
        if rotation.id != space.rotation:
            raise CorruptData(path, expected=f"the space's rotation {space.rotation}", found=rotation.id)
        off = float(np.abs(matrix @ matrix.T - np.eye(space.dim, dtype=np.float32)).max())
        if off > ORTHOGONAL:
            raise CorruptData(path, expected="an orthogonal matrix", found=f"one that is {off:.2g} off")
        return rotation
