"""What a run trains on: texts of one or more stores, tokenised once, beside their teacher vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from leafkit.errors import InputError
from leafkit.space import EmbeddingSpace
from leafkit.store import EmbeddingStore, text_key

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

KEPT_OUT_OF_SIGHT = 10  # rows the smallest run needs: one held out, the others trained on


@dataclass(frozen=True)
class TrainingTexts:
    """Texts of all stores, each (kind, text) once, prompts included."""

    space: EmbeddingSpace
    stores: tuple[EmbeddingStore, ...]
    prompted: list[str]
    keys: list[bytes]
    places: NDArray[np.int64]  # (n, 2): store, row in it

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
        return out

    @property
    def model(self) -> str | None:
        """The teacher's hub name or folder, from the first store that knows it."""
        return next((store.model for store in self.stores if store.model), None)


def read_stores(folders: Sequence[str | Path]) -> TrainingTexts:
    """Open the stores of a run.

    Raises:
        SpaceMismatch: two stores are of two spaces.
        InputError: there are too few texts to train on.
    """
    if isinstance(folders, (str, Path)):
        raise TypeError(f"stores is one path, expected a sequence of them: [{str(folders)!r}]")
    stores = tuple(EmbeddingStore.open(folder) for folder in folders)
    space = stores[0].space
    prompted, keys, places = [], [], []
    seen: set[bytes] = set()
    for number, store in enumerate(stores):
        space.require_compatible(store.space, ours=str(stores[0].folder), theirs=str(store.folder))
        if store.made_by != f"teacher-{space.id}":
            raise InputError(f"holds vectors of {store.made_by}, not the teacher's", path=store.folder)
        for row_number, row in enumerate(store.rows()):
            key = text_key(row.kind, row.text)
            if key not in seen:
                seen.add(key)
                keys.append(key)
                prompted.append(space.prompts.of(row.kind) + row.text)
                places.append((number, row_number))
    if len(prompted) < KEPT_OUT_OF_SIGHT:
        names = ", ".join(str(folder) for folder in folders)
        raise InputError(f"{len(prompted)} texts in {names}: a run needs at least {KEPT_OUT_OF_SIGHT}")
    return TrainingTexts(space, stores, prompted, keys, np.array(places, dtype=np.int64))


@dataclass(frozen=True)
class Tokens:
    """Token ids of every text as a student reads them, and how to make a batch of them."""

    ids: list[NDArray[np.int32]]
    pad_id: int
    static: bool

    @classmethod
    def of(cls, model: SentenceTransformer, texts: Sequence[str]) -> Tokens:
        """Tokenise texts once, cut at the student's limit."""
        if type(model[0]).__name__ == "StaticEmbedding":
            encodings = model[0].tokenizer.encode_batch(list(texts), add_special_tokens=False)
            return cls([np.array(encoding.ids, np.int32) for encoding in encodings], 0, True)
        tokenizer: Any = model.tokenizer
        encoded = tokenizer(list(texts), truncation=True, max_length=model.max_seq_length, padding=False)
        ids = [np.array(row, np.int32) for row in encoded["input_ids"]]
        return cls(ids, tokenizer.pad_token_id or 0, False)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of every text."""
        return np.array([len(row) for row in self.ids], dtype=np.int64)

    def batch(self, rows: NDArray[np.int64]) -> dict[str, torch.Tensor]:
        """Give the features of rows: padded to the longest, or for a static table one flat list with offsets."""
        import torch

        chosen = [self.ids[row] for row in rows]
        if self.static:
            flat = np.concatenate(chosen) if chosen else np.empty(0, np.int32)
            starts = np.cumsum([0, *(len(row) for row in chosen[:-1])])
            return {"input_ids": torch.from_numpy(flat.astype(np.int64)), "offsets": torch.from_numpy(starts)}
        longest = max(len(row) for row in chosen)
        input_ids = np.full((len(chosen), longest), self.pad_id, dtype=np.int64)
        mask = np.zeros((len(chosen), longest), dtype=np.int64)
        for place, row in enumerate(chosen):
            input_ids[place, : len(row)] = row
            mask[place, : len(row)] = 1
        return {"input_ids": torch.from_numpy(input_ids), "attention_mask": torch.from_numpy(mask)}
