"""EmbeddingStore: vectors by kind and text, each pair once. Thin over blocks; where vectors come from is not its."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

from leafkit.blocks import Blocks, Manifest, writer_lock
from leafkit.errors import CorruptData, InputError, MissingExtra, SpaceMismatch
from leafkit.space import EmbeddingSpace, Kind, Prompts

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

FORMAT = "leafkit.store"


class TextLike(Protocol):
    """A text with its kind and id, as the readers of ``leafkit.io`` give it."""

    @property
    def text(self) -> str: ...  # noqa: D102  # the names say it
    @property
    def kind(self) -> Kind: ...  # noqa: D102
    @property
    def id(self) -> str: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Row:
    """A stored text."""

    text: str
    kind: Kind
    id: str


def text_key(kind: Kind, text: str) -> bytes:
    """Name a text of a kind: XXH3-128, 16 bytes."""
    return xxhash.xxh3_128_digest(f"{kind}\0{text}".encode("utf-8", "surrogatepass"))


class EmbeddingStore:
    """Vectors of one space, made by one encoder, one per (kind, text).

    Rows are numbered in the order in which they were added.
    """

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._number_rows()

    def _number_rows(self) -> None:
        self._row_of_key: dict[bytes, int] = {}
        self._starts = self._block_starts()
        for start, block in zip(self._starts, self._blocks.blocks, strict=True):
            self._take_in(block.table(["key"])["key"].to_pylist(), start)

    def _block_starts(self) -> list[int]:
        rows = [block.entry.rows for block in self._blocks.blocks]
        return [0, *np.cumsum(rows[:-1]).tolist()] if rows else []

    def refresh(self) -> None:
        """Take in what other processes added since this was opened; called by a writer that holds the lock."""
        if self._blocks.refresh():
            self._number_rows()

    @classmethod
    def create(
        cls, folder: str | Path, space: EmbeddingSpace, *, made_by: str | None = None, model: str | None = None
    ) -> EmbeddingStore:
        """Make an empty store.

        Args:
            folder: where; must not hold a store.
            space: space of the vectors to come.
            made_by: fingerprint of the encoder, where it is not the space's own teacher.
            model: hub name or folder of the teacher, so that students can be cut from it later.
        """
        if model is not None and Path(model).is_dir():
            model = str(Path(model).absolute())  # found again from wherever the next command runs
        user = {"made_by": made_by or f"teacher-{space.id}", "model": model}
        return cls(Blocks.create(Path(folder), format=FORMAT, space=space, user=user))

    @classmethod
    def open(cls, folder: str | Path) -> EmbeddingStore:
        """Open a store to read or add; what another process adds later is seen by the next ``open``.

        Raises:
            CorruptData: the folder holds no store, or a file is not what the manifest says.
        """
        blocks = Blocks.open(Path(folder), format=FORMAT)
        if not isinstance(blocks.manifest.user.get("made_by"), str):
            raise CorruptData(
                Path(folder) / "manifest.json", expected='"made_by" among the user fields', found=blocks.manifest.user
            )
        return cls(blocks)

    @classmethod
    def open_or_create(
        cls, folder: str | Path, space: EmbeddingSpace, *, made_by: str | None = None, model: str | None = None
    ) -> EmbeddingStore:
        """Open the store if there is one, after comparing what it holds with what will be added; else make it.

        Raises:
            SpaceMismatch: the store is of another space, or was made by another encoder of the same space.
            UsageError: the folder holds something else.
        """
        path = Path(folder) / "manifest.json"
        if not path.exists():
            with writer_lock(Path(folder)):
                if not path.exists():  # two may have come here at once
                    return cls.create(folder, space, made_by=made_by, model=model)
        store = cls.open(folder)
        store.space.require_compatible(space, ours=str(folder), theirs="the model")
        wanted = made_by or f"teacher-{space.id}"
        if store.made_by != wanted:
            raise SpaceMismatch(
                f"{folder}: made by {store.made_by}, the encoder now is {wanted}: vectors of two encoders would mix."
                " Choose another folder"
            )
        return store

    @property
    def folder(self) -> Path:
        """Where the store lies."""
        return self._blocks.folder

    @property
    def manifest(self) -> Manifest:
        """What the store's folder says of itself."""
        return self._blocks.manifest

    @property
    def space(self) -> EmbeddingSpace:
        """Space of the vectors."""
        return self._blocks.space

    @property
    def made_by(self) -> str:
        """Fingerprint of the encoder that made the vectors."""
        return str(self.manifest.user["made_by"])

    @property
    def model(self) -> str | None:
        """Hub name or folder of the teacher, if the store's maker knew one."""
        return self.manifest.user.get("model")

    def __len__(self) -> int:
        return len(self._row_of_key)

    def holds(self, kind: Kind, text: str) -> bool:
        """Whether the text's vector is here."""
        return text_key(kind, text) in self._row_of_key

    def add(self, rows: Sequence[TextLike], vectors: NDArray[np.floating[Any]]) -> None:
        """Commit rows, all or none.

        Args:
            rows: n texts that are not here yet, no (kind, text) twice.
            vectors: float32 or float16, (n, dim), checked by whoever made them.
        """
        import pyarrow as pa  # 0.1 s

        keys = [text_key(row.kind, row.text) for row in rows]
        table = pa.table(
            {
                "key": pa.array(keys, pa.binary(16)),
                "kind": pa.array([row.kind for row in rows], pa.string()),
                "id": pa.array([row.id for row in rows], pa.string()),
                "text": pa.array([row.text for row in rows], pa.string()),
                "metadata": pa.nulls(len(rows), pa.string()),
            }
        )
        start = len(self._blocks)
        self._blocks.append(vectors, table)
        self._starts = self._block_starts()
        self._take_in(keys, start)

    def lookup(self, texts: Sequence[str], kind: Kind) -> NDArray[np.float32]:
        """Give the vectors of texts: float32, (n, dim), in their order.

        Raises:
            InputError: a text is not here.
        """
        rows = np.empty(len(texts), dtype=np.int64)
        for place, text in enumerate(texts):
            row = self._row_of_key.get(text_key(kind, text))
            if row is None:
                raise InputError(f"the {kind} {text[:60]!r} is not in the store: embed it first", path=self.folder)
            rows[place] = row
        return self.vectors(rows)

    def vectors(self, rows: NDArray[np.int64] | Sequence[int]) -> NDArray[np.float32]:
        """Give the vectors of row numbers: float32, (n, dim), in their order."""
        wanted = np.asarray(rows, dtype=np.int64)
        out = np.empty((len(wanted), self.space.dim), dtype=np.float32)
        block_of_row = np.searchsorted(self._starts, wanted, side="right") - 1
        for number in np.unique(block_of_row):
            here = np.flatnonzero(block_of_row == number)
            out[here] = self._blocks.blocks[number].vectors[wanted[here] - self._starts[number]]
        return out

    def rows(self) -> Iterator[Row]:
        """Give every stored text in row order."""
        for block in self._blocks.blocks:
            table: pa.Table = block.table(["text", "kind", "id"])
            for text, kind, name in zip(*(table[c].to_pylist() for c in ("text", "kind", "id")), strict=True):
                yield Row(text, kind, name)

    def as_dataset(self, *, kind: Kind | None = None) -> Dataset:
        """Give the store as a dataset to train a sentence-transformers model on, in row order.

        The columns are ``text``, with the space's prompt for its kind in front (it is part of what was trained, so the
        trainer gets no ``prompts``), and ``label``, the teacher's vector. Labels are the store's files, mapped, not
        read: rows come into memory as a batch asks for them. Texts are held in memory. What is added to the store
        later is not in it.

        Args:
            kind: texts of one kind only; of both if not given.

        Returns:
            A ``datasets.Dataset`` whose labels have the store's dtype and come as float32 torch tensors, (dim,). In a
            store of both dtypes the blocks of float16 are copied to float32, with a warning that says how much.

        Raises:
            MissingExtra: datasets is not installed.
        """
        import pyarrow as pa  # 0.1 s
        import pyarrow.compute as pc

        try:
            from datasets import Dataset  # pandas comes with it: 2 s
        except ImportError as exc:
            raise MissingExtra("datasets", "datasets") from exc
        blocks = self._blocks.blocks
        tables = [block.table(["text", "kind"]) for block in blocks]
        texts = [chunk for table in tables for chunk in _prompted(table, self.space.prompts).chunks]
        labels = _label_chunks([block.vectors for block in blocks])
        dtype = labels[0].type if labels else pa.list_(pa.float32(), self.space.dim)
        table = pa.table({"text": pa.chunked_array(texts, pa.string()), "label": pa.chunked_array(labels, dtype)})
        # a block never changes once it has its name; without a name of its own datasets would hash every vector
        fingerprint = xxhash.xxh3_64_hexdigest(",".join(block.entry.name for block in blocks).encode())
        dataset = Dataset(table, fingerprint=fingerprint)
        if kind is not None:
            kinds = pa.chunked_array([chunk for part in tables for chunk in part["kind"].chunks], pa.string())
            dataset = dataset.select(np.flatnonzero(pc.equal(kinds, kind)))  # row numbers beside the table, no copy
        # as Python lists a batch of labels takes longer to make than some students take to train on it
        return dataset.with_format("torch", columns=["label"], output_all_columns=True)

    def verify(self) -> None:
        """Compare the checksum of every file with the manifest's.

        Raises:
            CorruptData: one differs.
        """
        self._blocks.verify()

    def _take_in(self, keys: Iterable[bytes], start: int) -> None:
        for row, key in enumerate(keys, start):
            self._row_of_key.setdefault(key, row)


def _prompted(table: pa.Table, prompts: Prompts) -> pa.ChunkedArray:
    """Texts as the teacher embedded them."""
    import pyarrow.compute as pc  # 0.1 s

    before = pc.if_else(pc.equal(table["kind"], "query"), prompts.query, prompts.document)
    return pc.binary_join_element_wise(before, table["text"], "")


def _label_chunks(maps: Sequence[NDArray[np.floating[Any]]]) -> list[pa.Array]:
    """Lists of a fixed size over each matrix (n, dim) where it lies."""
    import pyarrow as pa  # 0.1 s

    narrow = [part for part in maps if part.dtype == np.float16]
    if 0 < len(narrow) < len(maps):
        size = sum(2 * part.nbytes for part in narrow)
        warnings.warn(
            f"{sum(map(len, narrow))} of {sum(map(len, maps))} rows are float16 among float32, and are copied into"
            f" {size} bytes of memory: a store of one dtype is not copied",
            stacklevel=3,
        )
        maps = [part.astype(np.float32, copy=False) for part in maps]
    chunks = []
    for part in maps:
        flat = pa.Array.from_buffers(
            pa.from_numpy_dtype(part.dtype), part.size, [None, pa.py_buffer(np.ascontiguousarray(part))]
        )
        chunks.append(pa.FixedSizeListArray.from_arrays(flat, part.shape[1]))
    return chunks
