"""manifest.json: what a folder of blocks holds, with the length and checksum of every file. The one mutable file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from leafkit.errors import CorruptData
from leafkit.io.atomic import write_file
from leafkit.space import EmbeddingSpace

MANIFEST = "manifest.json"
VERSION = 1
CHECKED_ON_OPEN_BYTES = 64 << 20  # a block below this is read in about 10 ms: its checksums are compared on every open


@dataclass(frozen=True)
class FileEntry:
    """Length and XXH3-128 (32 hex digits) of one file."""

    size_bytes: int
    xxh3_128: str

    @classmethod
    def of(cls, path: Path) -> FileEntry:
        """Measure a file."""
        digest = xxhash.xxh3_128()
        with path.open("rb") as file:
            while piece := file.read(1 << 22):
                digest.update(piece)
        return cls(path.stat().st_size, digest.hexdigest())


@dataclass(frozen=True)
class BlockEntry:
    """One block: the folder ``blocks/NAME``, its rows, its files."""

    name: str
    rows: int
    files: dict[str, FileEntry]

    @property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size_bytes for entry in self.files.values())


@dataclass(frozen=True)
class Manifest:
    """What a folder holds. ``format`` names the reader (``leafkit.store``), ``user`` is that reader's own."""

    format: str
    space: EmbeddingSpace
    blocks: tuple[BlockEntry, ...] = ()
    user: dict[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows of all blocks together."""
        return sum(block.rows for block in self.blocks)

    def write(self, folder: Path) -> None:
        """Replace the folder's manifest; everything it names must be on disk by then."""
        value = {
            "format": self.format,
            "version": VERSION,
            "space": self.space.to_json(),
            "blocks": [
                {
                    "name": block.name,
                    "rows": block.rows,
                    "files": {
                        name: {"size_bytes": entry.size_bytes, "xxh3_128": entry.xxh3_128}
                        for name, entry in block.files.items()
                    },
                }
                for block in self.blocks
            ],
            "user": self.user,
        }
        write_file(folder / MANIFEST, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())

    @classmethod
    def read(cls, folder: Path, *, format: str) -> Manifest:
        """Read a folder's manifest.

        Raises:
            CorruptData: there is none, it is not JSON, it is of another format or a newer version; each says both.
        """
        path = folder / MANIFEST
        try:
            value = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise CorruptData(folder, expected=f"a {format} folder with {MANIFEST}", found="no manifest") from None
        except OSError as exc:
            raise CorruptData(path, expected="a file", found=exc.strerror or str(exc)) from exc
        except ValueError as exc:
            raise CorruptData(path, expected="JSON", found=f"something else ({exc})") from exc
        if not isinstance(value, dict) or value.get("format") != format:
            found = value.get("format") if isinstance(value, dict) else type(value).__name__
            raise CorruptData(path, expected=f'format "{format}"', found=repr(found))
        if value.get("version") != VERSION:
            raise CorruptData(
                path,
                expected=f"version {VERSION} (the newest that this leafkit reads)",
                found=f"version {value.get('version')}",
                hint="Install a newer leafkit, or build the folder again",
            )
        try:
            blocks = tuple(
                BlockEntry(b["name"], b["rows"], {name: FileEntry(**entry) for name, entry in b["files"].items()})
                for b in value["blocks"]
            )
            space = EmbeddingSpace.from_json(value["space"], source=str(path))
            return cls(format, space, blocks, value["user"])
        except (KeyError, TypeError, AttributeError) as exc:
            raise CorruptData(path, expected="blocks, space and user fields", found=f"{exc!r}") from exc
