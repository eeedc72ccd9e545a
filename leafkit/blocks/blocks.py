"""Blocks: a folder of immutable row groups, each ``vectors.npy`` beside ``rows.parquet``. Knows files, not meaning."""

from __future__ import annotations

import contextlib
import fcntl
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leafkit.blocks.manifest import CHECKED_ON_OPEN_BYTES, BlockEntry, FileEntry, Manifest
from leafkit.errors import CorruptData, IndexLocked, ShapeMismatch, UsageError
from leafkit.io.atomic import new_folder, storage_errors
from leafkit.io.vectors import read_npy
from leafkit.space import EmbeddingSpace

if TYPE_CHECKING:
    import pyarrow as pa

VECTORS, ROWS, LOCK = "vectors.npy", "rows.parquet", ".lock"
NAME = re.compile(r"\d{6,}-[0-9a-f]{8}")  # of a block's folder
MERGED_ROWS = 65_536  # blocks of that size stay as they are; every open block holds two file descriptors


@dataclass(frozen=True)
class Block:
    """One opened block. Its files stay readable for as long as this lives, whatever happens to their names."""

    entry: BlockEntry
    vectors: NDArray[np.floating[Any]]  # (rows, dim), a read-only memory map
    table: Callable[[Sequence[str]], pa.Table]  # columns by name → their values


class Blocks:
    """A folder of blocks, opened at one moment: what a writer commits later is seen by the next ``open``."""

    def __init__(self, folder: Path, manifest: Manifest, blocks: Sequence[Block]) -> None:
        self.folder = folder
        self.manifest = manifest
        self.blocks = list(blocks)

    @property
    def space(self) -> EmbeddingSpace:
        """Space of every vector in the folder."""
        return self.manifest.space

    def __len__(self) -> int:
        return self.manifest.rows

    @classmethod
    def create(cls, folder: Path, *, format: str, space: EmbeddingSpace, user: dict[str, Any]) -> Blocks:
        """Make an empty folder of blocks.

        Raises:
            UsageError: the folder holds something already, blocks or a user's own files.
        """
        there = [path.name for path in folder.iterdir() if path.name != LOCK] if folder.is_dir() else []
        if there:
            raise UsageError(f"{folder}: holds {there[0]!r} and is no {format} folder: choose a new or empty folder")
        manifest = Manifest(format, space, user=user)
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        manifest.write(folder)
        return cls(folder, manifest, ())

    @classmethod
    def open(cls, folder: Path, *, format: str) -> Blocks:
        """Open a folder; lengths of all files are compared with the manifest, checksums too for blocks under 64 MiB.

        Raises:
            CorruptData: a file is missing, cut short, longer or changed; names it with both lengths or checksums.
        """
        manifest = Manifest.read(folder, format=format)
        while True:
            try:
                blocks = [_open_block(folder, entry, manifest.space.dim) for entry in manifest.blocks]
                return cls(folder, manifest, blocks)
            except CorruptData:
                before, manifest = manifest, Manifest.read(folder, format=format)
                if manifest == before:
                    raise  # else a writer has replaced blocks meanwhile

    def refresh(self) -> bool:
        """Take in what another writer committed; called by a writer that holds the lock. True if there was anything."""
        manifest = Manifest.read(self.folder, format=self.manifest.format)
        if manifest == self.manifest:
            return False
        there = {block.entry.name: block for block in self.blocks}
        self.blocks = [
            there.get(entry.name) or _open_block(self.folder, entry, manifest.space.dim) for entry in manifest.blocks
        ]
        self.manifest = manifest
        return True

    def append(
        self,
        vectors: NDArray[np.floating[Any]],
        rows: pa.Table,
        *,
        user: dict[str, Any] | None = None,
        instead: bool = False,
    ) -> None:
        """Commit more rows behind those that are there, whole or not at all.

        Blocks before it that are no larger become one with it, up to 65,536 rows: a run that saves every few seconds
        leaves dozens of blocks, not thousands.

        Args:
            vectors: float32 or float16, (n, dim).
            rows: n rows of parquet columns.
            user: replaces the manifest's user fields in the same commit.
            instead: the new rows take the place of all that were there.
        """
        if vectors.shape != (rows.num_rows, self.space.dim):
            raise ShapeMismatch(
                f"vectors have shape {vectors.shape}, expected ({rows.num_rows}, {self.space.dim}): a row each, as wide"
                " as the space"
            )
        kept = 0 if instead else self._kept(rows.num_rows, vectors.dtype)
        if not instead and kept < len(self.blocks):
            vectors, rows = _together(self.blocks[kept:], vectors, rows)
        name = f"{kept:06}-{uuid.uuid4().hex[:8]}"
        entry = BlockEntry(name, rows.num_rows, _write_block(self.folder / "blocks" / name, vectors, rows))
        block = _open_block(self.folder, entry, self.space.dim)
        entries = (*self.manifest.blocks[:kept], entry)
        manifest = replace(self.manifest, blocks=entries, user=self.manifest.user if user is None else user)
        manifest.write(self.folder)  # the commit
        self.manifest, self.blocks = manifest, [*self.blocks[:kept], block]
        self._sweep()

    def _kept(self, rows: int, dtype: np.dtype[Any]) -> int:
        """How many blocks stay as they are when rows are appended."""
        kept = len(self.blocks)
        while kept and self.blocks[kept - 1].vectors.dtype == dtype:
            before = self.blocks[kept - 1].entry.rows
            if before > rows or before + rows > MERGED_ROWS:
                break
            kept, rows = kept - 1, rows + before
        return kept

    def verify(self) -> None:
        """Compare the checksum of every file with the manifest's."""
        for entry in self.manifest.blocks:
            _check_sums(self.folder / "blocks" / entry.name, entry)

    def _sweep(self) -> None:
        """Remove folders that no manifest names: left by a killed writer, or replaced."""
        named = {entry.name for entry in self.manifest.blocks}
        for path in (self.folder / "blocks").iterdir():
            ours = NAME.fullmatch(path.name) or (path.name.startswith(".") and path.name.endswith(".tmp"))
            if ours and path.name not in named:
                shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def writer_lock(folder: Path) -> Iterator[None]:
    """Hold the one writer's place of a folder; the kernel gives it back when the process ends, however it ends."""
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise IndexLocked(f"{folder}: another process is writing here. Wait for it, or write elsewhere") from None
        yield


def _write_block(folder: Path, vectors: NDArray[np.floating[Any]], rows: pa.Table) -> dict[str, FileEntry]:
    import pyarrow.parquet as pq  # 0.1 s

    with new_folder(folder) as scratch:
        np.save(scratch / VECTORS, np.ascontiguousarray(vectors))
        pq.write_table(rows, scratch / ROWS, compression="zstd")
        return {name: FileEntry.of(scratch / name) for name in (VECTORS, ROWS)}


def _together(
    blocks: Sequence[Block], vectors: NDArray[np.floating[Any]], rows: pa.Table
) -> tuple[NDArray[np.floating[Any]], pa.Table]:
    import pyarrow as pa  # 0.1 s

    tables = [block.table(rows.column_names) for block in blocks]
    return np.concatenate([*(block.vectors for block in blocks), vectors]), pa.concat_tables([*tables, rows])


def _open_block(folder: Path, entry: BlockEntry, dim: int) -> Block:
    import pyarrow as pa  # 0.1 s
    import pyarrow.parquet as pq

    path = folder / "blocks" / entry.name
    for name, expected in entry.files.items():
        found = (path / name).stat().st_size if (path / name).is_file() else None
        if found != expected.size_bytes:
            raise CorruptData(
                path / name,
                expected=f"{expected.size_bytes} bytes",
                found="no file" if found is None else f"{found} bytes",
                hint="Remove the folder and make it again, or restore the file from a copy",
            )
    if entry.size_bytes < CHECKED_ON_OPEN_BYTES:
        _check_sums(path, entry)
    vectors = read_npy(path / VECTORS)
    if vectors.shape != (entry.rows, dim):
        raise CorruptData(path / VECTORS, expected=f"shape ({entry.rows}, {dim})", found=f"shape {vectors.shape}")
    source = pa.memory_map(str(path / ROWS))  # keeps the file, even when its name goes

    def table(columns: Sequence[str]) -> pa.Table:
        return pq.read_table(source, columns=list(columns))

    return Block(entry, vectors, table)


def _check_sums(path: Path, entry: BlockEntry) -> None:
    for name, expected in entry.files.items():
        found = FileEntry.of(path / name)
        if found != expected:
            raise CorruptData(
                path / name,
                expected=f"XXH3-128 {expected.xxh3_128} of {expected.size_bytes} bytes",
                found=f"{found.xxh3_128} of {found.size_bytes}",
                hint="The file was changed after it was written: restore it, or make the folder again",
            )
