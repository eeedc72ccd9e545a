"""A store as a dataset: what the trainer of sentence-transformers reads, over the store's own files."""

import resource
import sys
from pathlib import Path

import numpy as np
import pytest

from leafkit.errors import MissingExtra
from leafkit.space import EmbeddingSpace, Prompts, TeacherId
from leafkit.store import EmbeddingStore, Row
from leafkit.store import store as store_module

datasets = pytest.importorskip("datasets", reason="datasets is not installed (extra: datasets)")
torch = pytest.importorskip("torch", reason="torch is not installed (extra: train)")

SPACE = EmbeddingSpace(
    TeacherId("t", "1"), dim=64, normalized=False, similarity="dot", prompts=Prompts("find: ", "d: ")
)
KINDS = ("query", "document")


def add(store, count, dtype=np.float32):
    """Rows of both kinds in turn; a vector holds its row's number."""
    first = len(store)
    rows = [Row(f"text {number}", KINDS[number % 3 > 0], str(number)) for number in range(first, first + count)]
    vectors = np.repeat(np.arange(first, first + count, dtype=dtype)[:, None], store.space.dim, axis=1)
    store.add(rows, vectors + np.arange(store.space.dim, dtype=dtype) / 64)


@pytest.fixture
def store(tmp_path):
    """Four blocks: each is smaller than the one before it, so that none is taken in."""
    made = EmbeddingStore.create(tmp_path / "s", SPACE)
    for count in (40, 20, 9, 1):
        add(made, count)
    assert [entry.rows for entry in made.manifest.blocks] == [40, 20, 9, 1]
    return EmbeddingStore.open(tmp_path / "s")


def test_a_row_is_its_prompted_text_beside_its_vector(store):
    dataset = store.as_dataset()
    assert dataset.column_names == ["text", "label"]
    assert len(dataset) == len(store) == 70
    for number, row in enumerate(store.rows()):
        there = dataset[number]
        assert there["text"] == SPACE.prompts.of(row.kind) + row.text
        assert there["label"].dtype == torch.float32
        np.testing.assert_array_equal(there["label"], store.vectors([number])[0])


def test_labels_of_every_block_lie_in_its_map(store):
    dataset = store.as_dataset()
    blocks = store._blocks.blocks
    chunks = dataset.data.column("label").chunks
    assert len(chunks) == len(blocks) == 4
    for chunk, block in zip(chunks, blocks, strict=True):
        assert isinstance(block.vectors, np.memmap)
        assert chunk.values.buffers()[1].address == block.vectors.ctypes.data
        assert chunk.values.buffers()[1].size == block.vectors.nbytes
        assert chunk.offset == 0


def _resident_bytes():
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("no /proc here")
    return int(statm.read_text().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize("kind", [None, "document"])
def test_memory_does_not_grow_with_the_vectors(tmp_path, store, kind):
    store.as_dataset(kind=kind)[[0, 1]]  # what loads once, has loaded
    wide = EmbeddingStore.create(tmp_path / "wide", EmbeddingSpace(TeacherId("t", "1"), 16_384, False, "dot"))
    add(wide, 1024)
    wide = EmbeddingStore.open(tmp_path / "wide")  # 64 MiB: too large for its checksum to be read on open
    before = _resident_bytes()
    dataset = wide.as_dataset(kind=kind)
    rows = dataset[[7, 500]]
    grown = _resident_bytes() - before
    assert rows["label"].shape == (2, 16_384)
    assert grown < wide._blocks.blocks[0].vectors.nbytes / 4


@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_is_its_rows_in_order(store, kind):
    dataset = store.as_dataset(kind=kind)
    wanted = [row for row in store.rows() if row.kind == kind]
    assert [row["text"] for row in dataset] == [SPACE.prompts.of(kind) + row.text for row in wanted]
    np.testing.assert_array_equal(dataset["label"][:], store.lookup([row.text for row in wanted], kind))


def test_a_dataset_stays_as_it_is_while_the_store_grows_and_its_blocks_are_replaced(store):
    dataset = store.as_dataset()
    before = dataset["label"][:]
    again = EmbeddingStore.open(store.folder)
    add(again, 300)  # takes in all the blocks before it
    assert len(again.manifest.blocks) == 1
    assert torch.equal(dataset["label"][:], before)
    assert len(dataset) == 70
    assert len(again.as_dataset()) == 370
    assert again.as_dataset()._fingerprint != dataset._fingerprint
    assert EmbeddingStore.open(store.folder).as_dataset()._fingerprint == again.as_dataset()._fingerprint


def test_half_precision_stays_in_its_map_and_of_two_dtypes_the_copy_is_told(tmp_path):
    half = EmbeddingStore.create(tmp_path / "half", SPACE)
    add(half, 20, np.float16)
    dataset = half.as_dataset()
    assert (
        dataset.data.column("label").chunk(0).values.buffers()[1].address == half._blocks.blocks[0].vectors.ctypes.data
    )
    assert dataset[3]["label"].dtype == torch.float32
    np.testing.assert_array_equal(dataset["label"][:], half.vectors(range(20)))
    add(half, 10)
    with pytest.warns(UserWarning, match=rf"20 of 30 rows are float16 .* {20 * 64 * 4} bytes"):
        mixed = half.as_dataset()
    np.testing.assert_array_equal(mixed["label"][:], half.vectors(range(30)))
    addresses = [chunk.values.buffers()[1].address for chunk in mixed.data.column("label").chunks]
    assert addresses[1] == half._blocks.blocks[1].vectors.ctypes.data  # what is float32 stays where it is


def test_a_matrix_in_fortran_order_keeps_its_rows():
    matrix = np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4))
    (chunk,) = store_module._label_chunks([matrix])
    assert chunk.to_pylist() == matrix.tolist()


def test_an_empty_store_is_an_empty_dataset_of_the_same_columns(tmp_path, store):
    empty = EmbeddingStore.create(tmp_path / "empty", SPACE).as_dataset()
    assert len(empty) == 0
    assert empty.features == store.as_dataset().features


def test_without_datasets_the_extra_is_named(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"datasets is not installed: pip install 'leafkit\[datasets\]'"):
        store.as_dataset()
