"""BEIR folders: corpus, queries, and the judgements of one split. Ids are strings throughout."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path

from leafkit.errors import InputError
from leafkit.io.lines import numbered_lines
from leafkit.io.texts import Kind, TextRow, read_file

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
LARGEST_GRADE = 1_000_000  # trec_eval counts in 32 bits, and 2^grade is a gain to some
QRELS_SUFFIXES = (".tsv", ".tsv.gz", ".txt")


def is_beir_folder(path: Path) -> bool:
    """Whether a folder holds a corpus and queries."""
    return _find(path, "corpus") is not None and _find(path, "queries") is not None


def data_folders(folder: str | Path) -> list[Path]:
    """Give the folder where it holds data itself, else the folders of data in it, at any depth, by name.

    A child in which none is stands for itself, so that reading it says what is wrong; so does the folder where none is
    in any.
    """
    folder = Path(folder)
    if not _holds_any(folder) or _holds_data(folder):
        return [folder]
    children = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [found for child in children for found in data_folders(child)]


def _holds_data(folder: Path) -> bool:
    return (folder / "qrels").is_dir() or any(
        path.is_file() and path.name.endswith(SUFFIXES) for path in folder.iterdir()
    )


def _holds_any(folder: Path) -> bool:
    try:
        folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())] if folder.is_dir() else []
        return any(_holds_data(path) for path in folders)
    except OSError:  # reading it says what is wrong
        return False


def read_corpus(folder: str | Path) -> Iterator[TextRow]:
    """Read the documents, title and text joined; an empty one is kept, with an empty text.

    Raises:
        InputError: no corpus, a broken line, or an id twice: with another text it is refused, with the same text the
            second is passed over with a warning.
    """
    yield from _unique(_required(Path(folder), "corpus"), "document")


def read_queries(folder: str | Path) -> Iterator[TextRow]:
    """Read the queries.

    Raises:
        InputError: no queries, a broken line, or an id twice.
    """
    yield from _unique(_required(Path(folder), "queries"), "query")


def splits(folder: str | Path) -> list[str]:
    """Name the splits that have judgements."""
    files = sorted((Path(folder) / "qrels").glob("*"))
    return [f.name.removesuffix(s) for f in files for s in QRELS_SUFFIXES if f.name.endswith(s)]


def read_qrels(folder: str | Path, split: str = "test") -> dict[str, dict[str, int]]:
    """Read the judgements of a split: query id to document id to grade.

    Raises:
        InputError: no such split (those there are listed), or a broken line.
    """
    qrels = Path(folder) / "qrels"
    path = next((qrels / (split + s) for s in QRELS_SUFFIXES if (qrels / (split + s)).is_file()), None)
    if not qrels.is_dir():
        raise InputError("is no BEIR folder: expected corpus.jsonl, queries.jsonl and qrels/", path=Path(folder))
    if path is None:
        found = ", ".join(splits(folder)) or "none"
        raise InputError(f"no judgements for split {split!r} (found: {found}). Name one that is there", path=qrels)
    return read_qrels_file(path)


def read_qrels_file(path: Path) -> dict[str, dict[str, int]]:
    """Read a file of judgements: BEIR's three columns or TREC's four, tabs or spaces, with or without a header.

    Raises:
        InputError: another number of columns, a grade that is no integer, a pair judged twice, or no judgements.
    """
    judged: dict[str, dict[str, int]] = {}
    for line, text in numbered_lines(path):
        cells = text.split("\t")  # ids may hold spaces where tabs part the columns
        if len(cells) not in (3, 4):
            cells = text.split()
        if not text.strip():
            continue
        if len(cells) not in (3, 4):
            raise InputError(f"{len(cells)} columns, 3 or 4 expected", path=path, line=line)
        query, document, grade = cells[0], cells[-2], cells[-1]
        if not _is_integer(grade):
            if line == 1 and not any(INTEGER.fullmatch(cell) for cell in cells):
                continue  # a header: no cell of it is a number
            raise InputError(f"grade {grade!r} is no integer of at most {LARGEST_GRADE}", path=path, line=line)
        of_query = judged.setdefault(query, {})
        if document in of_query and of_query[document] != int(grade):
            raise InputError(
                f"query {query!r} and document {document!r} are judged twice: {of_query[document]} and {grade}",
                path=path,
                line=line,
            )
        of_query[document] = int(grade)
    if not judged:
        raise InputError("holds no judgements", path=path)
    return judged


def _is_integer(text: str) -> bool:
    return INTEGER.fullmatch(text.strip()) is not None and abs(int(text)) <= LARGEST_GRADE


def _unique(path: Path, kind: Kind) -> Iterator[TextRow]:
    seen: dict[str, tuple[str, str]] = {}
    again = 0
    for row in read_file(path, kind=kind, empty_allowed=kind == "document"):
        if row.id in seen:
            text, place = seen[row.id]
            if text != row.text:
                line = place.rsplit(":", 1)[1]
                number = row.place.rsplit(":", 1)[1]
                raise InputError(
                    f"duplicate id {row.id}, lines {line} and {number}, with two texts. Give each its own",
                    path=path,
                    line=int(number),
                )
            again += 1
            continue
        seen[row.id] = (row.text, row.place)
        yield TextRow(row.text, kind, row.id, row.place)
    if not seen:
        raise InputError("holds no texts", path=path)
    if again:
        warnings.warn(f"{path}: {again} rows repeat an id with the same text and were passed over", stacklevel=2)


def _find(folder: Path, name: str) -> Path | None:
    return next((folder / (name + suffix) for suffix in SUFFIXES if (folder / (name + suffix)).is_file()), None)


def _required(folder: Path, name: str) -> Path:
    path = _find(folder, name)
    if path is None:
        looked = ", ".join(name + suffix for suffix in SUFFIXES)
        raise InputError(f"no {name} here (looked for {looked})", path=folder)
    return path
