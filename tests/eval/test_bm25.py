import pytest

from leafkit.store import Row
from leafkit_eval.bm25 import bm25_run
from leafkit_eval.collections import Collection, load_collection
from leafkit_eval.metrics import measure, rank


def collection_of(documents, queries):
    return Collection(
        name="made",
        split="test",
        documents=[Row(text, "document", name) for name, text in documents.items()],
        queries=[Row(text, "query", name) for name, text in queries.items()],
        qrels={name: {next(iter(documents)): 1} for name in queries},
    )


def test_stems_meet_stop_words_do_not_and_an_unknown_word_finds_nothing():
    made = collection_of(
        {"a": "The boats are sailing", "b": "a mountain", "c": ""},
        {"stem": "boat sails", "stop": "the a are", "unknown": "xylophone"},
    )
    run = bm25_run(made)
    assert {query: list(hits) for query, hits in run.items()} == {"stem": ["a"], "stop": [], "unknown": []}


def test_equal_scores_are_cut_in_the_order_of_trec_eval():
    # Many, and of two scores in turn: fewer, or all alike, come out in order of a sort that is not stable, too.
    made = collection_of({str(n): ("slate", "slate roof")[n % 2] for n in range(300)} | {"z": "chalk"}, {"q": "slate"})
    hits = bm25_run(made, depth=400)["q"]
    assert len(hits) == 300
    assert list(hits) == rank(hits)
    assert list(bm25_run(made, depth=7)["q"]) == list(hits)[:7]


def test_a_document_with_the_querys_id_is_dropped_unless_kept():
    made = collection_of({"a": "slate", "b": "slate roof", "c": "chalk"}, {"a": "slate"})
    assert list(bm25_run(made, depth=1)["a"]) == ["b"]
    assert set(bm25_run(made, drop_self=False)["a"]) == {"a", "b"}


# nDCG@10 and recall@100 of an independent run with the same settings, written to three digits.
REFERENCE = [("cranfield", 0.360, 0.731), ("cisi", 0.395, 0.449), ("adi", 0.483, 0.910), ("covid-faq", 0.644, 0.988)]


@pytest.mark.parametrize(("name", "ndcg", "recall"), REFERENCE)
def test_real_collections_give_their_reference_scores(data, name, ndcg, recall):
    collection = load_collection(data / "retrieval" / name)
    # Queries and documents are numbered each for itself there: the reference keeps equal ids.
    means = measure(collection.qrels, bm25_run(collection, drop_self=False)).means
    assert means["ndcg_at_10"] == pytest.approx(ndcg, abs=6e-4)
    assert means["recall_at_100"] == pytest.approx(recall, abs=6e-4)


def test_documents_of_stop_words_alone_are_never_found(beir):
    collection = load_collection(beir({"a": "the", "b": "of and"}, {"q": "the"}, {"q": {"a": 1}}))
    assert bm25_run(collection) == {"q": {}}
