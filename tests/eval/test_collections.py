import json
import os

import pytest

from leafkit.errors import InputError
from leafkit_eval.collections import load_collection


def test_only_judged_queries_are_loaded_and_empty_documents_count(small):
    collection = load_collection(small)
    assert (collection.name, collection.split) == ("small", "test")
    assert [row.id for row in collection.queries] == ["q1", "q2", "q3"]
    assert len(collection.documents) == 6
    assert [row.id for row in collection.findable] == ["a", "b", "c", "d", "f"]
    assert collection.empty_documents == 1


def test_title_and_text_are_joined_as_beir_does(cases, beir):  # case 22
    folder = cases / "22-title-and-text"
    expected = json.loads((folder / "expected.json").read_text())
    judged = beir({}, {"q": "rain"}, {"q": {"1": 1}})
    (judged / "corpus.jsonl").write_bytes((folder / "corpus.jsonl").read_bytes())
    assert {row.id: row.text for row in load_collection(judged).documents} == expected


def test_the_test_split_is_judged_unless_another_is_named_and_splits_never_merge(cases):  # case 23
    folder = cases / "23-which-split"
    expected = json.loads((folder / "expected.json").read_text())
    collection = load_collection(folder / "all")
    assert collection.split == expected["all"]["split"]
    assert len(collection.queries) == expected["all"]["queries"]
    with pytest.raises(InputError) as refused:
        load_collection(folder / "dev-only")
    for name in expected["dev-only"]["error_names"]:
        assert name in str(refused.value)
    assert len(load_collection(folder / "dev-only", split="dev").queries) == 2


@pytest.mark.parametrize(
    ("qrels", "message"),
    [
        ({"q1": {"a": 1, "nowhere": 1}}, r"test\.tsv: 1 judged documents are not among the folder's 1, .*'nowhere'"),
        ({"q1": {"a": 1}, "q9": {"a": 0}}, r"test\.tsv: 1 judged queries are not among the folder's 1, .*'q9'"),
    ],
)
def test_judgements_of_what_is_not_there_are_refused(beir, qrels, message):
    folder = beir({"a": "one text"}, {"q1": "one"}, qrels)
    with pytest.raises(InputError, match=message):
        load_collection(folder)


def test_dropping_a_querys_own_id_may_cost_it_a_right_answer(beir):
    folder = beir({"a": "red", "b": "blue"}, {"a": "red?", "b": "blue?"}, {"a": {"a": 1}, "b": {"a": 1, "b": 0}})
    collection = load_collection(folder)
    assert (collection.shared_ids, collection.relevant_self_hits) == (("a", "b"), 1)


def test_texts_that_show_nothing_are_never_found(beir):
    collection = load_collection(beir({"a": "red", "b": "\u200b", "c": " \t"}, {"q": "red"}, {"q": {"a": 1}}))
    assert (len(collection.findable), collection.empty_documents) == (1, 2)


def test_two_judgements_have_one_hash_where_they_are_the_same(beir):
    def judgements(qrels, name):
        return load_collection(beir({"a": "red", "b": "blue"}, {"q": "red", "r": "blue"}, qrels, name=name)).judgements

    first = judgements({"q": {"a": 1}, "r": {"b": 2, "a": 0}}, "x")
    assert first == judgements({"r": {"a": 0, "b": 2}, "q": {"a": 1}}, "y")
    assert first != judgements({"q": {"a": 1}, "r": {"b": 1, "a": 0}}, "z")


def test_names_that_would_leave_their_folder_or_line_are_refused(beir):
    with pytest.raises(InputError, match="expected the name of a file in qrels"):
        load_collection(beir({"a": "red"}, {"q": "red"}, {"q": {"a": 1}}, name="x"), split="../test")
    with pytest.raises(InputError, match="holds a tab, line break or NUL"):
        load_collection(beir({"a\nb": "red", "c": "blue"}, {"q": "red"}, {"q": {"c": 1}}, name="y"))


def test_a_grade_of_thousands_of_digits_is_refused(beir):
    folder = beir({"a": "red"}, {"q": "red"}, {"q": {"a": 1}})
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\ta\t" + "1" * 5000 + "\n")
    with pytest.raises(InputError, match=r"test.tsv:2: grade '1+' is no integer"):
        load_collection(folder)


def test_a_judged_query_without_a_text_is_refused_by_name(beir):
    folder = beir({"a": "red"}, {"q1": "clay", "q2": "\u200b"}, {"q1": {"a": 1}, "q2": {"a": 1}})
    with pytest.raises(InputError, match="query 'q2' is judged and has no text: take its judgements out"):
        load_collection(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_named(small):
    (small / "corpus.jsonl").chmod(0)
    with pytest.raises(InputError, match=r"corpus.jsonl: cannot be read: Permission denied"):
        load_collection(small)


def test_a_folder_of_cqadupstack_is_a_part(beir):
    rows = {"a": "red"}, {"q": "red"}, {"q": {"a": 1}}
    part = load_collection(beir(*rows, name="cqadupstack/android"))
    assert (part.name, part.part_of, part.group) == ("cqadupstack-android", "cqadupstack", "cqadupstack")
    whole = load_collection(beir(*rows, name="other/android"))
    assert (whole.name, whole.part_of, whole.group) == ("android", None, "android")
