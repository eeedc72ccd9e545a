"""Approximate search of an index: FAISS's own lists, on the CPU where no GPU is; who else is installed is looked at."""

import numpy as np
import pytest

from leafkit import Index, Retriever
from leafkit.errors import DeviceError, MissingExtra, UsageError
from leafkit.index import GpuIndex, approximate
from leafkit.space import EmbeddingSpace, Prompts, TeacherId

faiss = pytest.importorskip("faiss", reason="faiss is not installed (extra: dev)")


@pytest.fixture
def index(tmp_path):
    random = np.random.default_rng(0)
    vectors = random.normal(size=(900, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    space = EmbeddingSpace(
        teacher=TeacherId("t", "r"), dim=16, normalized=True, similarity="cosine", prompts=Prompts("", ""), max_tokens=8
    )
    names = [str(row) for row in range(900)]
    return Index.create(tmp_path / "index", space, names, [f"text {name}" for name in names], vectors)


@pytest.fixture
def on_cpu(monkeypatch):
    """FAISS as it is here, its lists left where they are."""
    monkeypatch.setattr(approximate, "_faiss", lambda: faiss)
    monkeypatch.setattr(approximate, "_on_gpu", lambda _, lists: lists)


def test_more_probes_find_more_and_all_find_everything(index, on_cpu):
    queries = index.vectors[:50] + np.float32(0.05)
    exact = index.search(queries, 10)

    def recall(probes):
        found = GpuIndex(index, lists=30, probes=probes).search(queries, 10)
        assert (np.diff(found.scores, axis=1) <= 0).all()
        return np.mean([len({*a} & {*b}) / 10 for a, b in zip(found.rows, exact.rows, strict=True)])

    few, some, every = recall(1), recall(8), recall(30)
    assert few < some < every == 1.0


def test_places_that_no_list_fills_are_open(index, on_cpu):
    found = GpuIndex(index, lists=200, probes=1).search(index.vectors[:20], 60)
    assert found.rows.shape == (20, 60)
    assert (found.rows == -1).any()
    assert (found.scores[found.rows == -1] == -np.inf).all()


def test_it_takes_an_indexs_place_before_a_retriever(index, on_cpu):
    class Encoder:
        space, fingerprint = index.space, "x"

        def encode(self, texts, kind):
            return index.vectors[[int(text) for text in texts]]

    approximately = GpuIndex(index, lists=200, probes=1)
    assert (approximately.space, len(approximately)) == (index.space, 900)
    hits = Retriever(Encoder(), approximately).search("7", k=60)
    assert (hits[0].id, hits[0].text) == ("7", "text 7")
    assert 0 < len(hits) < 60  # as many as the list holds


def test_lists_and_probes_that_cannot_be_meant(index, on_cpu):
    with pytest.raises(UsageError, match="901 lists for 900 documents: expected 1 to 900"):
        GpuIndex(index, lists=901)
    with pytest.raises(UsageError, match="0 probes: expected at least 1"):
        GpuIndex(index, probes=0)


@pytest.mark.parametrize(
    ("installed", "error", "told"),
    [
        ({"faiss-cpu"}, UsageError, "faiss-cpu is installed in faiss-gpu's place"),
        ({"faiss-cpu", "faiss-gpu"}, UsageError, "beside faiss-gpu.*pip uninstall faiss-cpu faiss-gpu; pip install"),
        (set(), MissingExtra, r"pip install 'leafkit\[faiss-gpu\]'"),
    ],
)  # fmt: skip
def test_who_else_is_the_module_faiss_is_told(index, monkeypatch, installed, error, told):
    monkeypatch.setattr(approximate, "_installed", installed.__contains__)
    with pytest.raises(error, match=told):
        GpuIndex(index)


def test_where_faiss_sees_no_gpu(index, monkeypatch):
    monkeypatch.setattr(approximate, "_installed", {"faiss-gpu"}.__contains__)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0, raising=False)
    with pytest.raises(DeviceError, match="FAISS sees no GPU"):
        GpuIndex(index)
