"""Files and folders that are whole or absent: written beside their place, synced, then renamed into it."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

from leafkit.errors import LeafkitError, StorageError


def write_file(path: Path, data: bytes) -> None:
    """Replace ``path`` by a file that holds ``data``; a crash leaves the old file or the new one."""
    with new_file(path) as scratch:
        scratch.write_bytes(data)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give a scratch path beside ``path``; synced and renamed into place if the block ends well, removed if not."""
    if path.exists() and not path.is_file():
        raise StorageError(f"{path}: is no file that could be replaced: choose another")
    scratch = _scratch_beside(path)
    try:
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield scratch
            sync(scratch)
            scratch.replace(path)
            sync(path.parent)
    finally:
        with contextlib.suppress(OSError):  # of a folder that is a file: what went wrong was said above
            scratch.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, where it is not there yet.

    Raises:
        StorageError: it cannot be made.
    """
    with storage_errors(path):
        path.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a scratch folder beside ``path``; synced and renamed into place if the block ends well, removed if not.

    A folder that stands at ``path`` already is replaced: moved aside first, removed last.
    """
    scratch = _scratch_beside(path)
    aside = _scratch_beside(path)
    try:
        with storage_errors(path):
            scratch.mkdir(parents=True)
            yield scratch
            mode = _mode_of_new_files(scratch)
            for entry in (*scratch.rglob("*"), scratch):
                if entry.is_file():
                    entry.chmod(mode)  # writers of weights keep them to their owner, whatever the user's mask says
                sync(entry)
            if path.exists():
                path.rename(aside)
            scratch.rename(path)
            sync(path.parent)
    finally:
        for leftover in (scratch, aside):
            shutil.rmtree(leftover, ignore_errors=True)


def sync(path: Path) -> None:
    """Have the kernel write a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into a ``StorageError`` that names the place and what to do."""
    try:
        yield
    except LeafkitError:
        raise
    except Exception as exc:
        if not _says_the_disk_refused(exc):
            raise
        # NumPy's own "N requested and M written" has no errno
        raise StorageError(
            f"{path}: cannot write ({getattr(exc, 'strerror', None) or exc}). What was stored before is untouched: "
            "free space or choose another folder, then run the same command again"
        ) from exc


def _says_the_disk_refused(exc: Exception) -> bool:
    """An OSError; or what the writers of weights, in other languages, make of one."""
    if isinstance(exc, OSError):
        return not isinstance(exc, InterruptedError)
    return "os error" in str(exc) or "PytorchStreamWriter" in str(exc)


def _mode_of_new_files(folder: Path) -> int:
    probe = folder / f".{uuid.uuid4().hex[:8]}"
    probe.touch()
    try:
        return stat.S_IMODE(probe.stat().st_mode)
    finally:
        probe.unlink()


def _scratch_beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
