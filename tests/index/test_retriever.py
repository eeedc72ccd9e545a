import pytest

pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed (extra: train)")

from leafkit.errors import InputError, SpaceMismatch
from leafkit.index import Index, Retriever
from leafkit.store import EmbeddingStore
from leafkit.teachers import open_teacher


@pytest.fixture
def index(store, tmp_path):
    return Index.from_store(EmbeddingStore.open(store), tmp_path / "index")


def test_a_document_is_its_own_nearest(index, teacher_folder):
    retriever = Retriever(open_teacher(teacher_folder, prompts=index.space.prompts), index)
    found = index.search(retriever.encoder.encode([index.text(7)], "document"), 1)
    assert index.text(int(found.rows[0, 0])) == index.text(7)
    hits = retriever.search("w1 w2", k=3)
    assert [hit.rank for hit in hits] == [1, 2, 3]
    assert hits[0].score >= hits[1].score >= hits[2].score
    assert hits[0].text == index.text(index.ids.index(hits[0].id))


def test_an_encoder_of_another_space_is_refused_with_both_values(index, teacher_folder):
    with pytest.raises(SpaceMismatch, match="max_tokens: 32 .* 16"):
        Retriever(open_teacher(teacher_folder, max_tokens=16), index)


def test_a_blank_query_is_refused_by_its_number(index, teacher_folder):
    with pytest.raises(InputError, match="query 1 is blank"):
        Retriever(open_teacher(teacher_folder), index).search_batch(["moss", " "])
