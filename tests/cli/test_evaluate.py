"""What `leafkit eval retrieval` makes of its folders and models before anything is judged."""

import json
import shutil

import pytest

from leafkit.cli import compare, evaluate
from leafkit.errors import UsageError
from tests import tiny


def beir(folder, text="red"):
    (folder / "qrels").mkdir(parents=True)
    for name, key in (("corpus", "d"), ("queries", "q")):
        (folder / f"{name}.jsonl").write_text(json.dumps({"_id": key, "text": text}) + "\n")
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\td\t1\n")
    return folder


def test_a_folder_that_cannot_be_judged_keeps_no_other_from_it(tmp_path):
    one, same = beir(tmp_path / "data" / "one"), beir(tmp_path / "other" / "one")
    two = beir(tmp_path / "data" / "two")
    shutil.rmtree(beir(tmp_path / "data" / "three") / "qrels")
    collections, failures = evaluate._load([tmp_path / "data", same], [], "test")
    assert [collection.name for collection in collections] == [one.name, two.name]
    assert "is no BEIR folder" in str(failures[0])
    assert f"{same}: another collection is called 'one' too. Rename one folder" in str(failures[1])


def test_baselines_of_one_name_are_refused(tmp_path):
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed (extra: train)")
    first, second = (
        tiny.save_teacher(tmp_path / side / "same") for side in ("a", "b") if not (tmp_path / side).mkdir()
    )
    assert list(evaluate._baselines([str(first)])) == ["same"]
    with pytest.raises(UsageError, match="another baseline is called 'same' too"):
        evaluate._baselines([str(first), str(second)])


def test_two_reports_are_called_by_what_tells_them_apart(tmp_path):
    assert compare._apart(tmp_path / "a", tmp_path / "b") == ("a", "b")
    assert compare._apart(tmp_path / "a" / "report", tmp_path / "b" / "report") == ("a/report", "b/report")
    assert compare._apart(tmp_path, tmp_path) == ("first", "second")
