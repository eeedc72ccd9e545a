"""Index: document vectors of one space by id, searched exactly. Thin over blocks."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leafkit.blocks import Blocks, writer_lock
from leafkit.errors import CorruptData, InputError
from leafkit.ops import PackedDocuments, TopK, pack_documents, search_topk
from leafkit.rotation import Rotation
from leafkit.space import EmbeddingSpace
from leafkit.store import EmbeddingStore, text_key

FORMAT = "leafkit.index"


class Index:
    """A flat index, opened at one moment: a rebuild in the same folder is seen by the next ``open``."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        (block,) = blocks.blocks
        self.vectors: NDArray[Any] = block.vectors
        table = block.table(["id", "text"])
        self.ids: list[str] = table["id"].to_pylist()
        self._texts = table["text"]

    @property
    def space(self) -> EmbeddingSpace:
        """Space of the documents."""
        return self._blocks.space

    def __len__(self) -> int:
        return len(self._blocks)

    def text(self, row: int) -> str:
        """Give a document's text."""
        return str(self._texts[row].as_py())

    @classmethod
    def open(cls, folder: str | Path) -> Index:
        """Open an index.

        Raises:
            CorruptData: the folder holds no index or an unfinished one, or a file is not what the manifest says.
        """
        blocks = Blocks.open(Path(folder), format=FORMAT)
        if len(blocks) == 0:
            raise CorruptData(folder, expected="documents", found="none", hint="Its making was cut off: make it again")
        if len(blocks.blocks) != 1 or blocks.blocks[0].vectors.dtype != np.float32:
            found = ", ".join(f"{len(block.vectors)} rows of {block.vectors.dtype}" for block in blocks.blocks)
            raise CorruptData(folder, expected="one block of float32", found=found)
        return cls(blocks)

    @classmethod
    def create(
        cls,
        folder: str | Path,
        space: EmbeddingSpace,
        ids: Sequence[str],
        texts: Sequence[str],
        vectors: NDArray[np.floating[Any]],
    ) -> Index:
        """Build an index, whole or not at all; one that was in the folder is replaced at the last moment.

        Args:
            folder: where.
            space: space of the vectors.
            ids: n names, all different.
            texts: n documents.
            vectors: (n, dim), any float dtype; kept as float32.

        Raises:
            InputError: no documents, an id twice, or a row that is no vector of the space.
        """
        import pyarrow as pa  # 0.1 s

        path = Path(folder)
        if not ids:
            raise InputError("there are no documents to index", path=path)
        if len(set(ids)) != len(ids):
            twice = next(name for name, count in Counter(ids).items() if count > 1)
            raise InputError(f"the id {twice!r} names two documents", path=path)
        if (bad := space.first_bad_row(vectors)) is not None:
            raise InputError(f"row {bad[0]} ({ids[bad[0]]!r}) {bad[1]}", path=path)
        table = pa.table(
            {
                "key": pa.array([text_key("document", text) for text in texts], pa.binary(16)),
                "kind": pa.array(["document"] * len(ids), pa.string()),
                "id": pa.array(list(ids), pa.string()),
                "text": pa.array(list(texts), pa.string()),
                "metadata": pa.nulls(len(ids), pa.string()),
            }
        )
        with writer_lock(path):
            blocks = cls._blocks_at(path, space)
            blocks.append(np.asarray(vectors, dtype=np.float32), table, instead=True)
        return cls(blocks)

    @staticmethod
    def _blocks_at(path: Path, space: EmbeddingSpace) -> Blocks:
        if (path / "manifest.json").exists():
            there = Blocks.open(path, format=FORMAT)
            if not there.space.differences(space):
                return there
            raise InputError("holds an index of another space: choose another folder, or remove it", path=path)
        return Blocks.create(path, format=FORMAT, space=space, user={})

    @classmethod
    def from_store(cls, store: EmbeddingStore, folder: str | Path, *, rotation: Rotation | None = None) -> Index:
        """Build an index of a store's documents, as the teacher embedded them, turned by ``rotation`` if it is given.

        An id that several texts bear (files that number their documents alike) names none of them: each gets its text's
        key behind it, ``id@1f2e3d4c``, and a warning counts them.
        """
        rows, ids, texts = [], [], []
        documents = [(number, row) for number, row in enumerate(store.rows()) if row.kind == "document"]
        bearers = Counter(row.id for _, row in documents)
        for number, row in documents:
            shared = bearers[row.id] > 1
            rows.append(number)
            ids.append(f"{row.id}@{text_key('document', row.text).hex()[:8]}" if shared else row.id)
            texts.append(row.text)
        if renamed := sum(bearers[row.id] > 1 for _, row in documents):
            warnings.warn(
                f"{renamed} of {len(rows)} documents share their id with another: they are called ID@KEY, as"
                f" {next(name for name, (_, row) in zip(ids, documents, strict=True) if name != row.id)!r}",
                stacklevel=2,
            )
        if not rows:
            raise InputError("the store holds no documents: embed some with --kind document", path=store.folder)
        vectors, space = store.vectors(rows), store.space
        if rotation is not None:
            vectors, space = rotation.turn(vectors), rotation.space(space)
        return cls.create(folder, space, ids, texts, vectors)

    @classmethod
    def from_texts(cls, store: EmbeddingStore, documents: Iterable[tuple[str, str]], folder: str | Path) -> Index:
        """Build an index of (id, text) pairs whose vectors are in the store."""
        pairs = list(documents)
        ids, texts = [name for name, _ in pairs], [text for _, text in pairs]
        return cls.create(folder, store.space, ids, texts, store.lookup(texts, "document"))

    def search(self, queries: NDArray[np.float32], k: int) -> TopK:
        """Find the k best documents of every query exactly.

        The first search packs the documents: a byte a value, held beside the vectors until the index goes.

        Args:
            queries: float32, (Q, dim), vectors of the index's space.
            k: results a query; fewer come if there are fewer documents.

        Returns:
            Scores (inner products: cosines where the space is normalised) and rows, (Q, K), best first.
        """
        return search_topk(queries, self._packed, k)

    @cached_property
    def _packed(self) -> PackedDocuments:
        return pack_documents(self.vectors)
