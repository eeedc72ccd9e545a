"""A run that follows a development collection, through the command line, on a real collection in BEIR layout."""

import json

import pytest

pytest.importorskip("torch", reason="torch is not installed (extra: train)")

from leafkit.students import open_student
from leafkit.teachers import open_teacher
from leafkit_eval import DevelopmentCollection, judge_retrieval, load_collection
from tests.cli.test_cli import leafkit
from tests.tiny import texts


@pytest.fixture
def collection(tmp_path):
    folder = tmp_path / "small"
    (folder / "qrels").mkdir(parents=True)
    documents = [row.text for row in texts(60)]
    _lines(folder / "corpus.jsonl", {f"d{n}": text for n, text in enumerate(documents)} | {"empty": ""})
    _lines(folder / "queries.jsonl", {f"q{n}": " ".join(documents[n].split()[:3]) for n in range(8)})
    judged = "".join(f"q{n}\td{n}\t1\n" for n in range(8))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    return folder


def _lines(path, entries):
    path.write_text("".join(json.dumps({"_id": key, "text": text}) + "\n" for key, text in entries.items()))


def test_a_run_follows_a_collection_and_keeps_its_best_leaf(store, teacher_folder, collection, tmp_path):
    (tmp_path / "recipe.toml").write_text('preset = "fast"\nstudent = "layers:1"\nepochs = 4\ngates.every = 9\n')
    leaf = tmp_path / "leaf"
    told, _ = leafkit(
        "distill", "--store", store, "--recipe", tmp_path / "recipe.toml", "--development", collection,
        "--out", leaf, "--json",
    )  # fmt: skip
    lines = [json.loads(line) for line in (leaf / "log.jsonl").read_text().splitlines()]
    gates = [line for line in lines if line["event"] == "gate"]
    assert [gate["step"] for gate in gates] == [9, 18, 27, 36]
    best = max(gates, key=lambda gate: (gate["ndcg_at_10_asymmetric"], gate["step"]))
    assert json.loads(told)["best_step"] == best["step"]
    again, _ = leafkit(
        "distill", "--store", store, "--recipe", tmp_path / "recipe.toml", "--development", collection,
        "--out", leaf, "--json", "--resume",
    )  # fmt: skip
    assert json.loads(again)["finished_before"]
    report = judge_retrieval(
        [load_collection(collection)], teacher=open_teacher(teacher_folder), student=open_student(leaf),
        out=tmp_path / "report",
    )  # fmt: skip
    modes = report["summary"]["modes"]
    for mode in ("symmetric", "asymmetric"):
        assert modes[mode]["ndcg_at_10"] == pytest.approx(best[f"ndcg_at_10_{mode}"], abs=1e-9)
    assert modes["teacher"]["ndcg_at_10"] == pytest.approx(lines[0]["ndcg_at_10_teacher"], abs=1e-9)


def test_a_turned_space_is_followed_too(store, teacher_folder, collection, tmp_path):
    (tmp_path / "recipe.toml").write_text('student = "layers:1"\npreset = "fast"\nepochs = 1\nrotate = "pca"\n')
    command = ("distill", "--store", store, "--recipe", tmp_path / "recipe.toml", "--development", collection)
    leafkit(*command, "--out", tmp_path / "leaf")
    judged = ("--data", collection, "--teacher", teacher_folder, "--student", tmp_path / "leaf")
    report = json.loads(leafkit("eval", "retrieval", *judged, "--out", tmp_path / "report", "--json")[0])
    start, *_ = (json.loads(line) for line in (tmp_path / "leaf" / "log.jsonl").read_text().splitlines())
    assert report["summary"]["modes"]["teacher"]["ndcg_at_10"] == pytest.approx(start["ndcg_at_10_teacher"], abs=1e-9)


def test_a_leaf_is_trained_further_in_its_own_space_only(store, collection, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    leafkit("distill", "--store", store, "--student", "layers:1", "--epochs", 2, "--out", first)
    told, _ = leafkit("distill", "--store", store, "--student", first, "--epochs", 2, "--out", second, "--json")
    end = json.loads((first / "run.json").read_text())["cosine_end"]
    assert json.loads(told)["cosine_start"] == pytest.approx(end, abs=1e-3)  # bfloat16 and float32
    assert len(open_student(second).model) == len(open_student(first).model)
    (tmp_path / "r.toml").write_text('preset = "fast"\nstudent = "layers:1"\nepochs = 1\nrotate = "pca"\n')
    leafkit("distill", "--store", store, "--recipe", tmp_path / "r.toml", "--out", tmp_path / "turned")
    command = ("distill", "--store", store, "--student", tmp_path / "turned", "--out", tmp_path / "third")
    assert "two embedding spaces" in leafkit(*command, code=3)[1]


def test_a_collection_without_judgements_is_refused_before_the_first_step(store, collection, tmp_path):
    (collection / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n")
    command = ("distill", "--store", store, "--student", "layers:1", "--development", collection)
    _, error = leafkit(*command, "--out", tmp_path / "leaf", code=3)
    assert "test.tsv" in error
    assert not (tmp_path / "leaf.run").exists()


def test_judging_before_the_teachers_documents_are_there_is_an_error(teacher_folder, collection):
    teacher = open_teacher(teacher_folder)
    with pytest.raises(RuntimeError, match="prepare"):
        DevelopmentCollection(load_collection(collection), teacher).judge(teacher)
