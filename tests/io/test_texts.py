import gzip
import json

import hypothesis.strategies as st
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from leafkit.errors import InputError
from leafkit.io import read_corpus, read_qrels, read_texts
from leafkit.io.beir import read_qrels_file
from leafkit.io.texts import LONGEST_TEXT


def texts_of(path, **options):
    return [row.text for row in read_texts([path], **options)]


BAD = [  # file, content, where, what it says
    ("none.jsonl", None, "", "no such file"),
    ("empty.jsonl", b"", "", "0 bytes"),
    ("blank.jsonl", b"\n\n", "", "no texts"),
    ("a.jsonl", b'{"text": "x"}\nnot json\n', ":2", "not JSON"),
    ("a.jsonl", b'{"text": "x"}\n[1]\n', ":2", "expected a JSON object, found a list"),
    ("a.jsonl", b'{"text": "x"}\n{"text": ""}\n', ":2", "is empty"),
    ("a.jsonl", b'{"text": "x"}\n{"text": "  "}\n', ":2", "is empty"),
    ("a.jsonl", b'{"text": "x"}\n{"texxt": "y"}\n', ":2", "missing .keys: texxt"),
    ("a.jsonl", b'{"text": "x"}\n{"text": null}\n', ":2", "is null"),
    ("a.jsonl", b'{"text": "x"}\n{"text": 3.5}\n', ":2", "a number"),
    ("a.jsonl", b'{"text": "x"}\n{"text": NaN}\n', ":2", "NaN"),
    ("a.jsonl", b'{"text": "x", "kind": "doc"}\n', ":1", "'doc', expected \"query\""),
    ("a.jsonl", b'{"text": "x", "_id": null}\n', ":1", '"_id" is null'),
    ("a.jsonl", b'{"text": "\\ud800"}\n', ":1", "surrogate"),
    ("a.jsonl", b'{"text": "x"}\n\xff\xfe\n', ":2", "not UTF-8: byte 0xff"),
    ("a.txt", b"fine\n\xe9t\xe9\n", ":2", "not UTF-8"),
    ("a.jsonl", json.dumps({"text": "x" * (LONGEST_TEXT + 1)}).encode(), ":1", "1000001 characters, at most 1000000"),
    ("a.jsonl.gz", b'{"text": "x"}\n', "", "not a gzip file"),
    ("a.jsonl.gz", gzip.compress(b'{"text": "x"}\n' * 999)[:-9], "", "cut short"),
    ("a.csv", b"id,body\n1,x\n", "", "no column 'text' .columns: id, body"),
    ("a.tsv", b"id\ttext\n1\tx\ty\n", ":2", "3 columns, the header has 2"),
    ("a.parquet", b"PAR1nothing", "", "not parquet"),
    ("a.pdf", b"x", "", "'.pdf' is of no known form"),
]


@pytest.mark.parametrize(("name", "content", "where", "says"), BAD)
def test_a_bad_file_is_refused_with_its_place(tmp_path, name, content, where, says):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        texts_of(path)
    assert str(caught.value).startswith(f"{path}{where}: ")
    assert caught.value.exit_code == 3


def test_missing_and_strange_texts_are_refused_at_line_2_case_06(cases):
    for path in sorted((cases / "06-empty-and-missing-text").glob("*.jsonl")):
        if path.name == "title-only-is-fine.jsonl":
            assert "Ridge" in texts_of(path)
            continue
        with pytest.raises(InputError, match=rf"{path.name}:2: "):
            texts_of(path)


def test_titles_are_joined_as_beir_does_case_22(cases):
    case = cases / "22-title-and-text"
    expected = json.loads((case / "expected.json").read_text())
    assert {row.id: row.text for row in read_texts([case / "corpus.jsonl"])} == expected


def test_lines_end_where_lines_end_case_29(cases):
    case = cases / "29-lines-of-a-json-lines-file"
    expected = json.loads((case / "expected.json").read_text())
    for name in expected["three_rows"]:
        assert texts_of(case / name) == expected["texts"]
    assert len(texts_of(case / "separators-inside.jsonl")) == 3
    assert texts_of(case / "bom.txt") == expected["bom.txt"]
    with pytest.raises(InputError, match="bad-line-4.jsonl:4"):
        texts_of(case / "bad-line-4.jsonl")


def test_every_member_of_a_gzip_file_is_read_case_34(cases):
    case = cases / "34-compressed-in-several-pieces"
    assert len(texts_of(case / "two-members.jsonl.gz")) == 4
    with pytest.raises(InputError, match="zstd"):
        texts_of(case / "two-frames.jsonl.zst")
    with pytest.raises(InputError, match="not a gzip file"):
        texts_of(case / "plain-but-named.jsonl.gz")


def test_quotes_are_characters_in_tsv_and_quoting_in_csv_case_33(cases):
    case = cases / "33-quotes-in-tab-separated-text"
    expected = json.loads((case / "expected.json").read_text())
    for name in ("queries.tsv", "rows.csv"):
        assert texts_of(case / name) == list(expected[name].values()), name


def test_ids_are_strings_and_judgements_find_them_case_31(cases):
    case = cases / "31-ids-are-strings"
    expected = json.loads((case / "expected.json").read_text())
    ids = [row.id for row in read_corpus(case)]
    assert ids == expected["ids"]
    judged = read_qrels(case)
    assert sum(name in ids for of_query in judged.values() for name in of_query) == expected["judgements_found"]


def test_an_id_with_two_texts_names_both_lines_case_30(cases, tmp_path):
    for name in ("different-text", "same-text"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "corpus.jsonl").write_bytes((cases / "30-one-id-twice" / f"{name}.jsonl").read_bytes())
    with pytest.raises(InputError, match="duplicate id b, lines 2 and 5"):
        list(read_corpus(tmp_path / "different-text"))
    with pytest.warns(UserWarning, match="1 rows repeat"):
        assert len(list(read_corpus(tmp_path / "same-text"))) == 4


def test_judgements_are_read_in_every_layout_or_refused_case_32(cases):
    case = cases / "32-layouts-of-judgements"
    expected = json.loads((case / "expected.json").read_text())
    for name in ("beir.tsv", *expected["read_or_refused_by_name"]):
        assert read_qrels_file(case / name) == expected["judgements"], name
    broken = {"header-only": "no judgements", "score-not-a-number": ":3: .*'yes'", "two-columns": "2 columns, 3 or 4"}
    for name, says in broken.items():
        with pytest.raises(InputError, match=says):
            read_qrels_file(case / f"{name}.tsv")


def test_a_missing_split_names_those_there_are_case_23(cases):
    case = cases / "23-which-split"
    assert len(read_qrels(case / "all")) == 1
    with pytest.raises(InputError, match=r"'test' \(found: dev\)"):
        read_qrels(case / "dev-only")
    assert len(read_qrels(case / "dev-only", "dev")) == 2


plain_texts = st.lists(
    st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=30).filter(
        lambda text: text.strip() == text and text != "\ufeff" and not text.startswith("\ufeff")
    ),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "txt", "csv", "tsv", "parquet"])
@settings(max_examples=30, deadline=None)
@given(texts=plain_texts)
def test_what_was_written_is_read(tmp_path_factory, form, texts):
    path = tmp_path_factory.mktemp("round") / f"a.{form}"
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    if form == "jsonl":
        path.write_text(lines)
    elif form == "jsonl.gz":
        path.write_bytes(gzip.compress(lines.encode()))
    elif form == "txt":
        path.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
    elif form == "tsv":
        path.write_text("text\n" + "".join(text + "\n" for text in texts), encoding="utf-8")
    elif form == "csv":
        quoted = "".join('"' + text.replace('"', '""') + '"\n' for text in texts)
        path.write_text("text\n" + quoted, encoding="utf-8")
    else:
        pq.write_table(pa.table({"text": texts}), path)
    assert texts_of(path) == texts


def test_a_beir_folder_gives_both_kinds_and_passes_over_empty_documents(tmp_path):
    (tmp_path / "corpus.jsonl").write_text('{"_id": "1", "text": "a"}\n{"_id": "2", "text": ""}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "1", "text": "q"}\n')
    with pytest.warns(UserWarning, match="1 documents are empty"):
        rows = list(read_texts([tmp_path]))
    assert [(row.kind, row.text) for row in rows] == [("document", "a"), ("query", "q")]
    assert texts_of(tmp_path, kind="query") == ["q"]


def test_a_tsv_header_with_a_hyphen_is_a_header(tmp_path):
    file = tmp_path / "d.tsv"
    file.write_text("doc-id\ttext\n7\thello world\n")
    assert [row.text for row in read_texts([file])] == ["hello world"]
    file.write_text("17\thello world\n")
    assert [(row.id, row.text) for row in read_texts([file])] == [("17", "hello world")]
