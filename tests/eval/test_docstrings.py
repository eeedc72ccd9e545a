from textwrap import dedent

import pytest

from leafkit.errors import InputError, UsageError
from leafkit_eval.demo import Pair, mine, present, split_pairs
from leafkit_eval.demo.docstrings import divide

REST = "It reads the whole of the file and gives every line of it in turn."


@pytest.fixture
def package(tmp_path):
    """Writes files of a package `made`."""

    def write(**files):
        folder = tmp_path / "made"
        folder.mkdir(exist_ok=True)
        (folder / "__init__.py").touch()
        for name, source in files.items():
            path = folder / (name.replace("__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source if isinstance(source, bytes) else dedent(source).encode())
        return lambda: mine(["made"], where=[tmp_path])

    return write


def documented(name, summary, rest=REST, kind="def", indent=0):
    head = f"def {name}():" if kind == "def" else f"class {name}:"
    lines = [head, f'    """{summary}', "", f"    {rest}", '    """', ""]
    return "\n".join(" " * indent + line for line in lines)


def test_functions_classes_methods_and_nested_classes_are_found_private_and_local_ones_are_not(package):
    source = "\n".join(
        [
            documented("read", "Read a file of lines.", REST + " One."),
            documented("_hidden", "Hide this thing away.", REST + " Two."),
            documented("Outer", "Hold what is read.", REST + " Three.", kind="class"),
            documented("method", "Give one line back.", REST + " Four.", indent=4),
            documented("Inner", "Keep a single line.", REST + " Five.", kind="class", indent=4),
            documented("deep", "Look into a line.", REST + " Six.", indent=8),
            "def outer():",
            documented("local", "Never to be seen outside.", REST + " Seven.", indent=4),
            "async " + documented("later", "Read a file in time.", REST + " Eight."),
        ]
    )
    found = package(module=source)()
    assert [pair.id for pair in found] == [
        "made.module.Outer", "made.module.Outer.Inner", "made.module.Outer.Inner.deep", "made.module.Outer.method",
        "made.module.later", "made.module.read",
    ]  # fmt: skip
    assert found[-1] == Pair("made.module.read", "Read a file of lines.", REST + " One.")


def test_nothing_is_imported_and_a_file_that_cannot_be_parsed_costs_only_itself(package):
    good = documented("read", "Read a file of lines.")
    found = package(
        raises="raise SystemExit('imported')\n" + good,
        broken=documented("write", "Write a file of lines.", REST + " Two.") + "\ndef (",
        not_utf8=documented("café", "Drink a café noir.", REST + " Three.").encode("latin-1"),
        declared=b"# -*- coding: latin-1 -*-\n"
        + documented("thé", "Drink a thé vert.", REST + " 4.").encode("latin-1"),
        nul=b'"""\0"""',
        deep='"""x"""\nx = ' + "-" * 100_000 + "1",  # more levels than the parser has
        escapes=documented("match", r"Match \d digits here.", REST + " Five."),
    )()
    assert [pair.id for pair in found] == ["made.declared.thé", "made.escapes.match", "made.raises.read"]
    assert found[0].query == "Drink a thé vert."


def test_tests_vendored_and_generated_files_are_left_out(package):
    found = package(
        tests__test_a=documented("a", "Read a file of lines.", REST + " 1."),
        _vendor__b=documented("b", "Read b file of lines.", REST + " 2."),
        test_c=documented("c", "Read c file of lines.", REST + " 3."),
        d="# This file was automatically generated from e.py\n"
        + documented("d", "Read d file of lines.", REST + " 4."),
        e=documented("e", "Read e file of lines.", REST + " 5."),
    )()
    assert [pair.id for pair in found] == ["made.e.e"]


def test_of_equal_summaries_or_texts_the_plainest_name_stays_and_what_many_share_goes(package):
    many = "\n".join(documented(f"f{n}", "Return the same thing.", f"{REST} {n}.") for n in range(4))
    found = package(
        _private=documented("read", "Read a file of lines!", REST + " Other."),
        public=documented("read", "Read a file of LINES.", REST + " One."),
        twice=documented("again", "Say it in other words.", REST.upper() + " one"),
        many=many,
    )()
    assert [pair.id for pair in found] == ["made.public.read"]


DOCSTRINGS = [  # docstring, query or None
    ("Sort a list.\n\nThe list is sorted in place, equal things stay in their order.", "Sort a list."),
    ("Sort\na list of\nnumbers.\n\n" + REST, "Sort a list of numbers."),
    ("Sort a list. " + REST, "Sort a list."),
    ("Sort e.g. A lists. " + REST, "Sort e.g. A lists."),
    ("Sort a `list` with :func:`~pkg.sorted`.\n\n" + REST, "Sort a `list` with pkg.sorted."),
    ("Sort :class:`lists <list>` well.\n\n" + REST, "Sort lists well."),
    ("Return self.\n\n" + REST, None),  # shorter than 3 words
    ("Sort a list.\n\nIn place.", None),  # too little to find
    ("Args:\n    x (`int`): the number\n\n" + REST, None),
    ("x (`int`): the number that is meant\n\n" + REST, None),
    ("x (`int` of `(n,)`): the number that is meant\n\n" + REST, None),
    ("More of what it takes:\n\n" + REST, None),
    (":param x: the number that is meant\n\n" + REST, None),
    ("", None),
]


@pytest.mark.parametrize(("docstring", "query"), DOCSTRINGS)
def test_the_first_sentence_is_the_query(docstring, query):
    divided = divide(docstring)
    assert (None if divided is None else divided[0]) == query


def test_marks_are_taken_out_of_a_document_and_it_is_cut_between_words():
    _, document = divide(
        "Sort a list.\n\nParameters\n----------\nx : ``int``\n\n.. versionadded:: 1.2\n\nSee :ref:`sorting`. "
        + "word " * 900
    )
    assert document.startswith("Parameters\n\nx : `int`\n\nSee sorting. word word")
    assert len(document) <= 1500
    assert document.endswith(" word")


def test_a_package_that_is_not_there_is_named_and_the_standard_library_is_always_here(tmp_path):
    with pytest.raises(InputError, match="package 'nowhere' has no Python source here"):
        mine(["nowhere"], where=[tmp_path])
    assert present(["stdlib", "nowhere", "not.a.name"]) == ["stdlib"]


def pairs(number):
    return [
        Pair(f"made.f{n:04}", f"Do the thing {n}.", f"What thing {n} does, told at some length.") for n in range(number)
    ]


def test_no_text_that_judges_trains():
    # Every pair again under another name and in other letters, its query and document changed over.
    twins = [Pair(f"made.g{pair.id[-4:]}", pair.document.upper(), pair.query.rstrip(".")) for pair in pairs(300)]
    split = split_pairs(pairs(300) + twins, judged_documents=100, held_out_queries=20)
    collection = split.collection
    assert (len(collection.documents), len(collection.queries)) == (100, 20)

    def letters(rows):
        return {"".join(filter(str.isalnum, row.text.lower())) for row in rows}

    assert letters((*collection.documents, *collection.queries)).isdisjoint(letters(split.training))
    assert {row.kind for row in split.training} == {"query", "document"}


def test_each_query_has_its_own_objects_document_as_the_right_one():
    collection = split_pairs(pairs(300)).collection
    texts = {row.id: row.text for row in collection.documents}
    assert [row.id for row in collection.queries] == list(collection.qrels)
    for query in collection.queries:
        (right,) = collection.qrels[query.id]
        assert query.text.removeprefix("Do the ").rstrip(".") in texts[right]
    assert collection.shared_ids == ()  # or the right answer would be dropped as a self hit


def test_a_seed_decides_the_draw_and_the_order_of_the_pairs_does_not():
    split = split_pairs(pairs(200), seed=3)
    assert split_pairs(pairs(200)[::-1], seed=3) == split
    assert split_pairs(pairs(200), seed=4) != split


def test_few_pairs_are_shared_out_and_fewer_are_refused():
    split = split_pairs(pairs(90), train_queries=50, train_documents=40)
    assert (len(split.collection.documents), len(split.collection.queries)) == (30, 15)
    assert [row.kind for row in split.training] == ["query"] * 50 + ["document"] * 40
    with pytest.raises(InputError, match="found 59 documented objects, expected at least 60"):
        split_pairs(pairs(59))
    with pytest.raises(UsageError, match="held_out_queries must be at least 1, got 0"):
        split_pairs(pairs(90), held_out_queries=0)
