"""Collection: documents, judged queries and judgements of one split, checked against each other on loading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import xxhash

from leafkit.errors import InputError, LeafkitError
from leafkit.io.beir import read_corpus, read_qrels, read_queries
from leafkit.io.texts import is_blank
from leafkit.store.store import TextLike
from leafkit_eval.metrics import Qrels

IN_PARTS = "cqadupstack"  # BEIR's one collection of twelve folders, each with documents of its own


@dataclass(frozen=True)
class Collection:
    """A retrieval test.

    Attributes:
        name: for tables and file names.
        split: whose judgements these are.
        documents: every document, empty ones too: they count, and are never found.
        queries: the judged queries, in the order of the judgements; others are not encoded.
        qrels: query id to document id to grade.
        part_of: the benchmark's collection that this is a part of, which counts as one in every mean; none, as a rule.
    """

    name: str
    split: str
    documents: Sequence[TextLike]
    queries: Sequence[TextLike]
    qrels: Qrels
    part_of: str | None = None

    @property
    def group(self) -> str:
        """What it counts as in a mean over collections."""
        return self.part_of or self.name

    @cached_property
    def findable(self) -> tuple[TextLike, ...]:
        """The documents that have a text, hence a vector."""
        return tuple(row for row in self.documents if not is_blank(row.text))

    @property
    def empty_documents(self) -> int:
        """Documents without a text."""
        return len(self.documents) - len(self.findable)

    @cached_property
    def shared_ids(self) -> tuple[str, ...]:
        """Queries whose id is a document's too: self hits where the ids mean the same text, an accident where not."""
        documents = {row.id for row in self.documents}
        return tuple(row.id for row in self.queries if row.id in documents)

    @property
    def judgements(self) -> str:
        """Hash of who was judged relevant to what: two scores compare where it is the same."""
        lines = sorted(f"{query}\t{name}\t{grade}" for query, of in self.qrels.items() for name, grade in of.items())
        return xxhash.xxh3_64_hexdigest("\n".join(lines).encode())

    @property
    def relevant_self_hits(self) -> int:
        """Queries whose own id is that of a document judged relevant to them: dropping it costs them a right answer."""
        return sum(self.qrels[name].get(name, 0) > 0 for name in self.shared_ids)


def load_collection(folder: str | Path, *, split: str = "test") -> Collection:
    """Load a folder in BEIR layout.

    Args:
        folder: holds the corpus, the queries and ``qrels/``; its name becomes the collection's. One that lies in a
            folder ``cqadupstack`` is a part of that collection.
        split: which judgements; splits are never merged.

    Raises:
        InputError: a file is missing or broken, the split is not there, or judgements name a query or document that
            the folder does not have.
    """
    folder = Path(folder)
    try:
        return _load(folder, split)
    except LeafkitError:
        raise
    except OSError as exc:  # no permission, as a rule
        raise InputError(f"cannot be read: {exc.strerror or exc}", path=exc.filename or folder) from exc


def _load(folder: Path, split: str) -> Collection:
    if Path(split).name != split:
        raise InputError(f"split {split!r}: expected the name of a file in qrels/, as test", path=folder)
    qrels = read_qrels(folder, split)
    documents = tuple(read_corpus(folder))
    queries = {row.id: row for row in read_queries(folder)}
    if all(is_blank(row.text) for row in documents):
        raise InputError(f"all {len(documents)} documents are empty: there is nothing to find", path=folder)
    _require_known(folder, split, qrels, set(queries), {row.id for row in documents})
    for name in (*queries, *(row.id for row in documents)):
        if any(character in name for character in "\t\r\n\0"):
            raise InputError(
                f"the id {name!r} holds a tab, line break or NUL, which a ranking's file cannot", path=folder
            )
    for name in qrels:
        if is_blank(queries[name].text):
            raise InputError(f"query {name!r} is judged and has no text: take its judgements out", path=folder)
    whole = folder.resolve().parent.name.lower()
    part_of = IN_PARTS if whole == IN_PARTS else None
    return Collection(
        name=f"{part_of}-{folder.resolve().name}" if part_of else folder.resolve().name,
        split=split,
        documents=documents,
        queries=tuple(queries[query] for query in qrels),
        qrels=qrels,
        part_of=part_of,
    )


def _require_known(folder: Path, split: str, qrels: Qrels, queries: set[str], documents: set[str]) -> None:
    unknown_queries = [query for query in qrels if query not in queries]
    judged = dict.fromkeys(document for grades in qrels.values() for document in grades)
    unknown_documents = [document for document in judged if document not in documents]
    for what, unknown, held in (
        ("queries", unknown_queries, len(queries)),
        ("documents", unknown_documents, len(documents)),
    ):
        if unknown:
            raise InputError(
                f"{len(unknown)} judged {what} are not among the folder's {held}, the first is {unknown[0]!r}."
                f" Take their judgements out, or add the {what}",
                path=folder / "qrels" / f"{split}.tsv",
            )
