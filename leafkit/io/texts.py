"""Texts of users: JSON lines, plain lines, csv, tsv, parquet, folders and BEIR folders, all as one stream of rows."""

from __future__ import annotations

import csv
import json
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, cast

from leafkit.errors import InputError
from leafkit.io.lines import inner_suffix, numbered_lines, open_bytes

Kind = Literal["query", "document"]
JSON_LINES, PLAIN, CSV, TSV, PARQUET = (".jsonl", ".json", ".ndjson"), ".txt", ".csv", ".tsv", ".parquet"
READABLE = (*JSON_LINES, PLAIN, CSV, TSV, PARQUET)
LONGEST_TEXT = 1_000_000  # characters; every encoder has cut a text long before
csv.field_size_limit(8 * LONGEST_TEXT)


def is_blank(text: str) -> bool:
    """Whether a text shows nothing: no character, or only spaces and such as have no width."""
    return not any(character.isprintable() and not character.isspace() for character in text)


@dataclass(frozen=True, slots=True)
class TextRow:
    """A text as it will be embedded, title joined; ``place`` is ``file:line`` for messages."""

    text: str
    kind: Kind
    id: str
    place: str = ""


def read_texts(
    paths: Sequence[str | Path], *, kind: Kind | None = None, text_field: str = "text", limit: int | None = None
) -> Iterator[TextRow]:
    """Read texts from any mix of files and folders, in their order, in constant memory.

    A title is put before its text with one space. A row without an id is named ``file:line``. In a BEIR folder the
    corpus are documents and the queries are queries, ``kind`` chooses one of them, and empty documents, which real
    collections have, are passed over with a warning that counts them. Of other folders every readable file is read.

    Args:
        paths: JSON lines (``text``, optional ``kind``, ``_id``, ``title``), .txt, .csv, .tsv, .parquet, all but parquet
            also gzip'd, and folders.
        kind: of rows that do not say; document if not given.
        text_field: name of the text's field or column.
        limit: read no more rows than this.

    Raises:
        InputError: a file is missing, empty or of an unknown form, or a line is no text; names file and line.
    """
    return islice(_read_all([Path(path) for path in paths], kind, text_field), limit)


def _read_all(paths: Iterable[Path], kind: Kind | None, text_field: str) -> Iterator[TextRow]:
    from leafkit.io.beir import is_beir_folder

    for path in paths:
        if not path.exists():
            raise InputError("there is no such file or folder", path=path)
        if not path.is_dir():
            yield from _nonempty(path, read_file(path, kind=kind or "document", text_field=text_field))
        elif is_beir_folder(path):
            yield from _read_beir(path, kind)
        else:
            files = [entry for entry in sorted(path.iterdir()) if entry.is_file() and inner_suffix(entry) in READABLE]
            if not files:
                raise InputError(f"no file in this folder can be read (looked for {', '.join(READABLE)})", path=path)
            yield from _read_all(files, kind, text_field)


def _read_beir(folder: Path, kind: Kind | None) -> Iterator[TextRow]:
    from leafkit.io.beir import read_corpus, read_queries

    if kind != "query":
        empty = 0
        for row in read_corpus(folder):
            if row.text:
                yield row
            else:
                empty += 1
        if empty:
            warnings.warn(f"{folder}: {empty} documents are empty and were passed over", stacklevel=2)
    if kind != "document":
        yield from read_queries(folder)


def _nonempty(path: Path, rows: Iterator[TextRow]) -> Iterator[TextRow]:
    first = next(rows, None)
    if first is None:
        raise InputError("holds no texts", path=path)
    yield first
    yield from rows


def read_file(path: Path, *, kind: Kind, text_field: str = "text", empty_allowed: bool = False) -> Iterator[TextRow]:
    """Read one file by its suffix; ``empty_allowed`` keeps rows whose text is an empty string."""
    suffix = inner_suffix(path)
    if suffix == PLAIN:
        yield from _plain(path, kind)
        return
    if suffix in JSON_LINES:
        records = json_lines(path)
    elif suffix in (CSV, TSV):
        records = _table(path, text_field, tab=suffix == TSV)
    elif suffix == PARQUET:
        records = _parquet(path, text_field)
    else:
        raise InputError(f"{path.suffix or 'no suffix'!r} is of no known form: {', '.join(READABLE)}", path=path)
    for line, record in records:
        yield _row(record, path, line, kind, text_field, empty_allowed)


def _plain(path: Path, kind: Kind) -> Iterator[TextRow]:
    for line, text in numbered_lines(path):
        if text.strip():
            _check_length(text, path, line)
            yield TextRow(text.strip(), kind, f"{path.name}:{line}", f"{path}:{line}")


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Give the number and the object of every line that is not blank.

    Raises:
        InputError: the file is missing or empty, or a line is no JSON object; names the line.
    """
    for line, text in numbered_lines(path):
        if not text.strip():
            continue
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as exc:
            raise InputError(f"is not JSON ({exc}): {text[:60]!r}", path=path, line=line) from exc
        if not isinstance(record, dict):
            raise InputError(f"expected a JSON object, found {_kind_of(record)}", path=path, line=line)
        yield line, record


def _table(path: Path, text_field: str, *, tab: bool) -> Iterator[tuple[int, dict[str, Any]]]:
    """TSV has no quoting: a quotation mark is a character. CSV follows RFC 4180, line breaks in quotes included.

    A TSV of two columns whose first cell is no name (``17``) has no header: it is id and text.
    """
    rows: Iterator[tuple[int, list[str]]]
    if tab:
        rows = ((line, text.split("\t")) for line, text in numbered_lines(path))
    else:
        rows = _csv_rows(path)
    line, header = next(rows, (0, []))
    if tab and len(header) == 2 and text_field not in header and not header[0].isidentifier():
        rows, header = chain([(line, header)], rows), ["_id", text_field]  # no header: id and text, as MS MARCO has it
    _check_names(header, path)
    if text_field not in header:
        raise InputError(
            f"has no column {text_field!r} (columns: {', '.join(header)}). Name it with --text-field", path=path
        )
    for line, cells in rows:
        if len(cells) != len(header):
            if not any(cells):
                continue
            raise InputError(f"{len(cells)} columns, the header has {len(header)}", path=path, line=line)
        yield line, {name: cell for name, cell in zip(header, cells, strict=True) if cell or name == text_field}


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader((text + "\n" for _, text in numbered_lines(path)), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as exc:
            raise InputError(f"is not CSV ({exc})", path=path, line=line) from exc
        if cells is None:
            return
        yield line, cells


def _parquet(path: Path, text_field: str) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow as pa  # 0.1 s
    import pyarrow.parquet as pq

    open_bytes(path).close()
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as exc:
        raise InputError(f"is not parquet ({_first_line(exc)})", path=path) from exc
    names = file.schema_arrow.names
    _check_names(names, path)
    if text_field not in names:
        raise InputError(
            f"has no column {text_field!r} (columns: {', '.join(names)}). Name it with --text-field", path=path
        )
    wanted = [name for name in dict.fromkeys((text_field, "kind", "_id", "id", "title")) if name in names]
    number = 0
    try:
        for batch in file.iter_batches(columns=wanted):
            for record in batch.to_pylist():
                yield number, record  # rows of a table are counted from 0
                number += 1
    except (OSError, UnicodeDecodeError) as exc:  # pyarrow's own errors are OSErrors where a page is damaged
        raise InputError(f"is damaged, or not UTF-8 ({_first_line(exc)})", path=path, line=number) from exc


def _first_line(exc: Exception) -> str:
    return str(exc).splitlines()[0]


def _check_names(names: Sequence[str], path: Path) -> None:
    twice = [name for place, name in enumerate(names) if name in names[:place]]
    if twice:
        raise InputError(f"has two columns called {twice[0]!r}: rename one", path=path)


def _row(record: dict[str, Any], path: Path, line: int, kind: Kind, text_field: str, empty_allowed: bool) -> TextRow:
    text = _text(record, path, line, text_field)
    title = "" if text_field == "title" else _title(record, path, line)
    joined = join_title(title, text)
    if not joined and not empty_allowed:
        raise InputError(f'"{text_field}" is empty: give it words, or remove the row', path=path, line=line)
    _check_length(joined, path, line)
    name = _id(record, path, line)
    _check_characters(name, path, line)
    return TextRow(joined, _kind(record, path, line, kind), name, f"{path}:{line}")


def join_title(title: str, text: str) -> str:
    """Join as BEIR does: title, one space, text, stripped at both ends."""
    return f"{title} {text}".strip()


def _text(record: dict[str, Any], path: Path, line: int, field: str) -> str:
    if field not in record:
        keys = ", ".join(record) or "none"
        raise InputError(
            f'"{field}" is missing (keys: {keys}). Use --text-field, or remove the line', path=path, line=line
        )
    value = record[field]
    if not isinstance(value, str):
        raise InputError(f'"{field}" is {_kind_of(value)}, expected a string', path=path, line=line)
    return value


def _title(record: dict[str, Any], path: Path, line: int) -> str:
    title = record.get("title")
    if title is not None and not isinstance(title, str):
        raise InputError(f'"title" is {_kind_of(title)}, expected a string', path=path, line=line)
    return title or ""


def _kind(record: dict[str, Any], path: Path, line: int, default: Kind) -> Kind:
    value = record.get("kind")
    if value is None:
        return default
    if value not in ("query", "document"):
        raise InputError(f'"kind" is {value!r}, expected "query" or "document"', path=path, line=line)
    return cast(Kind, value)


def _id(record: dict[str, Any], path: Path, line: int) -> str:
    """Ids are strings; a JSON integer is the string of its digits. A null id is refused."""
    name = next((key for key in ("_id", "id") if key in record), None)
    if name is None:
        return f"{path.name}:{line}"
    value = record[name]
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise InputError(f'"{name}" is {_kind_of(value)}, expected a string', path=path, line=line)
    return str(value)


def _check_length(text: str, path: Path, line: int) -> None:
    if len(text) > LONGEST_TEXT:
        raise InputError(
            f"a text of {len(text)} characters, at most {LONGEST_TEXT}: cut it into passages", path=path, line=line
        )
    _check_characters(text, path, line)


def _check_characters(text: str, path: Path, line: int) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise InputError("half of a surrogate pair (\\ud800-\\udfff) is no character", path=path, line=line) from exc


def _kind_of(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    shown = "" if isinstance(value, list | dict) else f" ({value!r})"
    return names.get(type(value), type(value).__name__) + shown
