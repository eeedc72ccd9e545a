import json
import os
from pathlib import Path

import numpy as np
import pytest
import xxhash

from leafkit.space import EmbeddingSpace, TeacherId
from leafkit_eval.collections import load_collection


@pytest.fixture
def data():
    folder = os.environ.get("LEAFKIT_DATA")
    if not folder:
        pytest.skip("LEAFKIT_DATA is not set: no real collections")
    return Path(folder)


class WordEncoder:
    """An encoder made of word hashes; ``blur`` takes it away from the one without. Counts what it is asked for."""

    def __init__(self, name="words", blur=0.0, fails_after=None):
        self.space = EmbeddingSpace(TeacherId("words", "1"), dim=64, normalized=True)
        self.fingerprint = f"encoder-{name}"
        self.encoded = []
        self._blur, self._fails_after = blur, fails_after

    def encode(self, texts, kind):
        if self._fails_after is not None and len(self.encoded) >= self._fails_after:
            raise KeyboardInterrupt
        self.encoded += [(kind, text) for text in texts]
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text):
        vector = sum(_noise(word) for word in text.lower().split()) + self._blur * _noise(text)
        return (vector / np.linalg.norm(vector)).astype(np.float32)


def _noise(text):
    return np.random.default_rng(xxhash.xxh32_intdigest(text.encode())).normal(size=64)


@pytest.fixture
def encoder():
    return WordEncoder


@pytest.fixture
def beir(tmp_path):
    """Writes a folder in BEIR layout from dicts."""

    def write(documents, queries, qrels, *, name="small", split="test"):
        folder = tmp_path / name
        (folder / "qrels").mkdir(parents=True)
        for file, texts in (("corpus", documents), ("queries", queries)):
            lines = [json.dumps({"_id": key, "text": text}) + "\n" for key, text in texts.items()]
            (folder / f"{file}.jsonl").write_text("".join(lines))
        rows = [f"{query}\t{key}\t{grade}\n" for query, grades in qrels.items() for key, grade in grades.items()]
        (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(rows))
        return folder

    return write


@pytest.fixture
def small(beir):
    """Three judged queries over six documents, one of them empty; a fourth query is not judged."""
    return beir(
        {
            "a": "red clay",
            "b": "blue slate",
            "c": "grey chalk",
            "d": "green jade",
            "e": "",
            "f": "red and grey granite",
        },
        {"q1": "clay red", "q2": "slate", "q3": "jade or granite", "q4": "never asked"},
        {"q1": {"a": 2, "f": 1}, "q2": {"b": 1}, "q3": {"d": 1, "f": 1}},
    )


@pytest.fixture
def collections(beir):
    """Two collections of forty documents and thirty queries, of three words out of twenty: no two rankings alike."""
    made = []
    for seed in (5, 6):
        random = np.random.default_rng(seed)
        texts = [" ".join(f"word{n}" for n in random.choice(20, 3, replace=False)) for _ in range(70)]
        documents = {f"d{n:02}": text for n, text in enumerate(texts[:40])}
        queries = {f"q{n}": text for n, text in enumerate(texts[40:])}
        qrels = {query: {f"d{n:02}": 1 for n in random.choice(40, 3, replace=False)} for query in queries}
        made.append(load_collection(beir(documents, queries, qrels, name=f"many{seed}")))
    return made
