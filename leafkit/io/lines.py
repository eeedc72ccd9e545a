"""Bytes of a user's file, decompressed, as numbered lines of text."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from leafkit.errors import InputError

BOM = b"\xef\xbb\xbf"
LONGEST_LINE_BYTES = 64 << 20  # a line over this is no record: a wrong file, or one without line ends


def inner_suffix(path: Path) -> str:
    """Give the suffix under the compression: ``.jsonl`` for ``a.jsonl.gz``."""
    return (path.with_suffix("") if path.suffix in (".gz", ".zst") else path).suffix.lower()


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file, decompressed by its name: all members of a .gz, all frames of a .zst.

    Raises:
        InputError: there is no such file, or it is empty.
    """
    if not path.is_file():
        raise InputError("there is no such file" if not path.exists() else "is no file", path=path)
    if path.stat().st_size == 0:
        raise InputError("is empty (0 bytes)", path=path)
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    if path.suffix == ".zst":
        raise InputError("zstd (.zst) is not read: unpack it, or compress with gzip", path=path)
    return path.open("rb")


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Give every line with its number from 1, without BOM and line end; only LF and CR LF end a line.

    Raises:
        InputError: not UTF-8 (line named), not gzip or cut short, or a line over 64 MiB.
    """
    number = 0
    with open_bytes(path) as file:
        try:
            while line := file.readline(LONGEST_LINE_BYTES + 1):
                number += 1
                if len(line) > LONGEST_LINE_BYTES:
                    raise InputError(f"over {LONGEST_LINE_BYTES} bytes in one line", path=path, line=number)
                if number == 1:
                    line = line.removeprefix(BOM)
                yield number, line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as exc:
            found = f"byte 0x{exc.object[exc.start]:02x} at column {exc.start + 1}"
            raise InputError(f"is not UTF-8: {found}. Convert the file", path=path, line=number) from exc
        except gzip.BadGzipFile as exc:
            raise InputError(f"is not a gzip file, whatever its name says ({exc})", path=path) from exc
        except (EOFError, zlib.error) as exc:
            raise InputError(f"is cut short or damaged after line {number} ({exc})", path=path) from exc
