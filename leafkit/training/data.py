"""What a run trains on: texts of one or more stores, tokenised once, beside their teacher vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from leafkit.errors import InputError, RecipeError
from leafkit.io.atomic import new_folder
from leafkit.rotation import Rotation
from leafkit.space import KINDS, EmbeddingSpace
from leafkit.store import EmbeddingStore, Row, text_key
from leafkit.training.recipe import KindWeights, Source

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

KEPT_OUT_OF_SIGHT = 10  # rows the smallest run needs: one held out, the others trained on
ROWS_AT_ONCE = 16_384


@dataclass(frozen=True)
class TrainingTexts:
    """Texts of all stores, each (kind, text) once, prompts included.

    Attributes:
        space: of the teacher's vectors.
        stores: where they lie.
        weights: how often a text of each store comes in an epoch.
        prompted: n texts as the student reads them.
        keys: n names of (kind, text).
        kinds: (n,) place of each text's kind in ``leafkit.space.KINDS``.
        places: (n, 2), store and row in it.
        rotation: turns the stores' vectors into the space, where it is not theirs.
    """

    space: EmbeddingSpace
    stores: tuple[EmbeddingStore, ...]
    weights: tuple[float, ...]
    prompted: list[str]
    keys: list[bytes]
    kinds: NDArray[np.int8]
    places: NDArray[np.int64]
    rotation: Rotation | None = None

    def turned(self, rotation: Rotation) -> TrainingTexts:
        """Give the same texts with their vectors turned."""
        return replace(self, space=rotation.space(self.space), rotation=rotation)

    @property
    def hash(self) -> str:
        """Of which texts these are, in their order: 16 hex digits."""
        return xxhash.xxh3_64_hexdigest(b"".join(self.keys))

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Teacher vectors of rows: float32, (n, dim)."""
        out = np.empty((len(rows), self.space.dim), dtype=np.float32)
        places = self.places[rows]
        for number, store in enumerate(self.stores):
            here = np.flatnonzero(places[:, 0] == number)
            if len(here):
                out[here] = store.vectors(places[here, 1])
        return out if self.rotation is None else self.rotation.turn(out)

    def some_vectors(self, rows: NDArray[np.int64], count: int, *, seed: int, step: int) -> NDArray[np.float32]:
        """Teacher vectors of ``count`` out of ``rows``, others each step: float32, (count, dim)."""
        drawn = np.random.default_rng((seed, step)).integers(0, len(rows), count)
        return self.vectors(rows[drawn])

    def shares(self, rows: NDArray[np.int64]) -> list[tuple[NDArray[np.int64], float]]:
        """Part rows by their store, each part with how often it comes in an epoch."""
        of_store = self.places[rows, 0]
        parts = [(rows[of_store == number], weight) for number, weight in enumerate(self.weights)]
        return [(part, weight) for part, weight in parts if len(part)]

    def loss_weights(self, weights: KindWeights) -> NDArray[np.float32] | None:
        """What each text counts in the loss: float32, (n,); None where all count the same."""
        if weights.query == weights.document:
            return None
        return np.array([getattr(weights, kind) for kind in KINDS], dtype=np.float32)[self.kinds]

    @property
    def model(self) -> str | None:
        """The teacher's hub name or folder, from the first store that knows it."""
        return next((store.model for store in self.stores if store.model), None)

    def require_sound(self) -> None:
        """Look at every vector once.

        Raises:
            InputError: one is not finite, or not of unit length in a normalised space; names store and row.
        """
        for first in range(0, len(self.places), ROWS_AT_ONCE):
            rows = np.arange(first, min(first + ROWS_AT_ONCE, len(self.places)))
            bad = self.space.first_bad_row(self.vectors(rows))
            if bad is not None:
                store, row = self.places[first + bad[0]]
                raise InputError(
                    f"row {row}, the vector of {self.prompted[first + bad[0]][:60]!r}, {bad[1]}. Embed the texts anew"
                    " or import sound vectors",
                    path=self.stores[store].folder,
                )


def read_sources(sources: Sequence[Source]) -> TrainingTexts:
    """Open the stores of a run.

    Raises:
        RecipeError: there is no store.
        SpaceMismatch: two stores are of two spaces.
        InputError: there are too few texts to train on.
    """
    if not sources:
        raise RecipeError("the recipe has no data: name at least one store")
    stores = tuple(EmbeddingStore.open(source.store) for source in sources)
    space = stores[0].space
    prompted, keys, kinds, places = [], [], [], []
    seen: set[bytes] = set()
    for number, (store, source) in enumerate(zip(stores, sources, strict=True)):
        space.require_compatible(store.space, ours=str(stores[0].folder), theirs=str(store.folder))
        if store.made_by != f"teacher-{space.id}":
            raise InputError(f"holds vectors of {store.made_by}, not the teacher's", path=store.folder)
        for row_number, row in enumerate(store.rows()):
            if row.kind in source.kinds and (key := _key(row)) not in seen:
                seen.add(key)
                keys.append(key)
                prompted.append(space.prompts.of(row.kind) + row.text)
                kinds.append(KINDS.index(row.kind))
                places.append((number, row_number))
    if len(prompted) < KEPT_OUT_OF_SIGHT:
        names = ", ".join(source.store for source in sources)
        raise InputError(f"{len(prompted)} texts in {names}: a run needs at least {KEPT_OUT_OF_SIGHT}")
    weights = tuple(source.weight for source in sources)
    return TrainingTexts(
        space, stores, weights, prompted, keys, np.array(kinds, dtype=np.int8), np.array(places, dtype=np.int64)
    )


def _key(row: Row) -> bytes:
    return text_key(row.kind, row.text)


@dataclass(frozen=True)
class Tokens:
    """Token ids of every text as a student reads them, and how to make a batch of them.

    Attributes:
        flat: int32, all texts' ids one after another.
        ends: int64, (n,), where each text's ids end.
        pad_id: what fills a batch.
        static: the student is a table.
    """

    flat: NDArray[np.int32]
    ends: NDArray[np.int64]
    pad_id: int
    static: bool

    @classmethod
    def of(cls, model: SentenceTransformer, texts: Sequence[str]) -> Tokens:
        """Tokenise texts once, cut at the student's limit."""
        pad_id, static = _pad_and_static(model)
        tokenizer: Any = model[0].tokenizer if static else model.tokenizer
        parts = []
        for first in range(0, len(texts), ROWS_AT_ONCE):
            part = list(texts[first : first + ROWS_AT_ONCE])
            if static:
                ids = [encoding.ids for encoding in tokenizer.encode_batch(part, add_special_tokens=False)]
            else:
                ids = tokenizer(part, truncation=True, max_length=model.max_seq_length, padding=False)["input_ids"]
            parts += [np.asarray(row, np.int32) for row in ids]
        ends = np.cumsum([len(row) for row in parts], dtype=np.int64)
        return cls(np.concatenate(parts), ends, pad_id, static)

    @classmethod
    def cached(cls, model: SentenceTransformer, texts: Sequence[str], folder: Path) -> Tokens:
        """Read the token ids that an earlier start of the run left in ``folder``, or make them and leave them there."""
        if not folder.is_dir():
            made = cls.of(model, texts)
            with new_folder(folder) as scratch:
                np.save(scratch / "flat.npy", made.flat)
                np.save(scratch / "ends.npy", made.ends)
        return cls(np.load(folder / "flat.npy", mmap_mode="r"), np.load(folder / "ends.npy"), *_pad_and_static(model))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of every text."""
        return np.diff(self.ends, prepend=0)

    def ids(self, rows: NDArray[np.int64]) -> list[NDArray[np.int32]]:
        """Token ids of rows."""
        return [np.asarray(self.flat[self.ends[row - 1] if row else 0 : self.ends[row]]) for row in rows]

    def features(self, ids: Sequence[NDArray[np.int32]]) -> dict[str, torch.Tensor]:
        """Give a model's input: padded to the longest, or for a static table one flat list with offsets."""
        import torch

        if self.static:
            flat = np.concatenate(ids) if len(ids) else np.empty(0, np.int32)
            starts = np.cumsum([0, *(len(row) for row in ids[:-1])])
            return {"input_ids": torch.from_numpy(flat.astype(np.int64)), "offsets": torch.from_numpy(starts)}
        longest = max(len(row) for row in ids)
        input_ids = np.full((len(ids), longest), self.pad_id, dtype=np.int64)
        mask = np.zeros((len(ids), longest), dtype=np.int64)
        for place, row in enumerate(ids):
            input_ids[place, : len(row)] = row
            mask[place, : len(row)] = 1
        return {"input_ids": torch.from_numpy(input_ids), "attention_mask": torch.from_numpy(mask)}


def _pad_and_static(model: SentenceTransformer) -> tuple[int, bool]:
    static = type(model[0]).__name__ == "StaticEmbedding"
    return 0 if static else model.tokenizer.pad_token_id or 0, static
