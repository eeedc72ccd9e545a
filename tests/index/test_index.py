import numpy as np
import pytest

from leafkit.blocks import Blocks
from leafkit.errors import CorruptData, InputError
from leafkit.index import Index
from leafkit.space import EmbeddingSpace, TeacherId
from leafkit.store import EmbeddingStore, Row


def space(dim, **fields):
    return EmbeddingSpace(TeacherId("tiny", "1"), dim, **{"normalized": True, **fields})


def unit(rows, dim=64, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(rows, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def build(folder, vectors, of=None):
    ids = [f"d{number}" for number in range(len(vectors))]
    return Index.create(folder, of or space(vectors.shape[1]), ids, [f"text of {name}" for name in ids], vectors)


def test_rows_that_are_no_unit_vectors_are_refused_by_number_case_14(tmp_path, cases):
    documents = np.load(cases / "14-dot-or-cosine" / "documents.npy")
    with pytest.raises(InputError, match=r"row 0 .*norm 0\.2"):
        build(tmp_path / "index", documents)
    assert not (tmp_path / "index").exists()


def test_a_dot_space_ranks_by_inner_product_case_14(tmp_path, cases):
    import json

    case = cases / "14-dot-or-cosine"
    expected = json.loads((case / "expected.json").read_text())["dot"]
    documents, queries = np.load(case / "documents.npy"), np.load(case / "queries.npy")
    index = build(tmp_path / "index", documents, space(documents.shape[1], normalized=False, similarity="dot"))
    found = index.search(queries, 5)
    assert found.rows[0].tolist() == expected["rows"]
    np.testing.assert_allclose(np.sort(found.scores[0]), np.sort(expected["scores"]), atol=1e-6)


def test_rows_with_nan_or_infinity_are_refused_and_all_are_named_case_07(tmp_path, cases):
    documents = np.load(cases / "07-nan-and-inf-rows" / "documents.npy")
    of = space(documents.shape[1], normalized=False, similarity="dot")
    with pytest.raises(InputError, match=r"row 1 .*also rows 3, 4, 6"):
        build(tmp_path / "index", documents, of)
    assert not (tmp_path / "index").exists()


def test_a_reader_keeps_its_answers_while_the_index_is_built_anew_case_17(tmp_path):
    queries = unit(20, seed=9)
    build(tmp_path / "index", unit(2000))
    reader = Index.open(tmp_path / "index")
    before = reader.search(queries, 5)
    for rows, seed in ((2500, 1), (1000, 2), (300, 3)):
        build(tmp_path / "index", unit(rows, seed=seed))
        again = reader.search(queries, 5)
        assert (again.rows == before.rows).all()
        assert (again.scores == before.scores).all()
        assert reader.text(1999) == "text of d1999"
        fresh = Index.open(tmp_path / "index")
        assert len(fresh) == rows
        np.testing.assert_allclose(fresh.search(unit(1, seed=seed), 1).scores, 1, atol=1e-6)
    assert len(list((tmp_path / "index" / "blocks").iterdir())) == 1


def test_a_file_written_over_in_place_is_found_on_open_case_17(tmp_path):
    build(tmp_path / "index", unit(200))
    file = next((tmp_path / "index" / "blocks").glob("*/vectors.npy"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(CorruptData, match=r"vectors.npy: expected .* bytes"):
        Index.open(tmp_path / "index")


def test_a_failed_rebuild_leaves_the_old_index_as_it_was(tmp_path):
    build(tmp_path / "index", unit(30))
    with pytest.raises(InputError, match="row 2"):
        build(tmp_path / "index", np.where(np.arange(5)[:, None] == 2, np.nan, unit(5)).astype(np.float32))
    assert len(Index.open(tmp_path / "index")) == 30


def test_an_index_of_another_space_is_not_replaced(tmp_path):
    build(tmp_path / "index", unit(30))
    with pytest.raises(InputError, match="another space"):
        build(tmp_path / "index", unit(30, dim=32))
    assert len(Index.open(tmp_path / "index")) == 30


def test_an_id_twice_is_refused_by_name_and_nothing_is_written(tmp_path):
    with pytest.raises(InputError, match="'a' names two documents"):
        Index.create(tmp_path / "index", space(64), ["a", "b", "a"], ["x", "y", "z"], unit(3))
    assert not (tmp_path / "index").exists()


def test_a_store_gives_its_documents_only_and_an_id_that_two_bear_names_neither(tmp_path):
    store = EmbeddingStore.create(tmp_path / "store", space(64))
    rows = [Row("oak", "document", "1"), Row("moss", "query", "2"), Row("elm", "document", "1")]
    store.add([*rows, Row("ash", "document", "2")], unit(4))
    with pytest.warns(UserWarning, match="2 of 3 documents share their id with another: .* '1@"):
        index = Index.from_store(store, tmp_path / "index")
    assert [index.text(row) for row in range(len(index))] == ["oak", "elm", "ash"]
    assert index.ids[0].startswith("1@")
    assert index.ids[1].startswith("1@")
    assert index.ids[0] != index.ids[1]
    assert index.ids[2] == "2"


def test_a_store_without_documents_is_refused(tmp_path):
    store = EmbeddingStore.create(tmp_path / "store", space(64))
    store.add([Row("moss", "query", "2")], unit(1))
    with pytest.raises(InputError, match="no documents"):
        Index.from_store(store, tmp_path / "index")


def test_an_index_is_built_anew_from_imported_vectors_of_the_same_teacher(tmp_path):
    from dataclasses import replace

    vectors = np.eye(8, dtype=np.float32)[:2]
    Index.create(tmp_path / "i", space(8), ["a", "b"], ["one", "two"], vectors)
    Index.create(tmp_path / "i", replace(space(8), origin="imported"), ["c", "d"], ["three", "four"], vectors)
    assert Index.open(tmp_path / "i").ids == ["c", "d"]


@pytest.mark.parametrize(
    ("dtype", "found"), [(np.float32, "2 rows of float32, 1 rows of float32"), (np.float16, "2 rows of float16")]
)
def test_a_folder_that_is_no_single_block_of_float32_is_refused(tmp_path, dtype, found):
    import pyarrow as pa

    blocks = Blocks.create(tmp_path / "i", format="leafkit.index", space=space(8), user={})
    for rows in (2, 1) if dtype == np.float32 else (2,):
        table = pa.table({"id": [f"{rows}{n}" for n in range(rows)], "text": ["x"] * rows})
        blocks.append(np.eye(8, dtype=dtype)[:rows], table)
    with pytest.raises(CorruptData, match=f"expected one block of float32, found {found}"):
        Index.open(tmp_path / "i")
