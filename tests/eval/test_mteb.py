import copy
import itertools
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("mteb", reason="mteb is not installed (extra: eval)")

import mteb
from mteb.models.model_meta import ModelMeta
from scipy.stats import spearmanr

from leafkit.errors import InputError, SpaceMismatch, TeacherError, UsageError
from leafkit.space import EmbeddingSpace, TeacherId
from leafkit.teachers import open_teacher
from leafkit_eval import judge_retrieval, load_collection
from leafkit_eval.mteb import (
    MtebModel,
    describe_model,
    hub_collections,
    local_task,
    named_tasks,
    require_own,
    run_mteb,
    task_collection,
    write_model_meta,
    write_summary,
)
from tests import tiny

pytestmark = pytest.mark.filterwarnings("default")  # mteb's and sklearn's own


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return open_teacher(tiny.save_teacher(tmp_path_factory.mktemp("mteb") / "teacher"), precision="float32")


def model(encoder, folder, *, name="local/small", documents=None):
    return MtebModel(encoder, describe_model(encoder, name, documents=documents), folder / "cache", documents=documents)


def lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path.parent


def sentences(count, seed=3):
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(tiny.WORDS, random.integers(2, 12))) for _ in range(count)]


@pytest.fixture
def pairs(tmp_path):
    left, right = sentences(40), sentences(40, seed=4)
    rows = [{"sentence1": a, "sentence2": b, "score": n % 6} for n, (a, b) in enumerate(zip(left, right, strict=True))]
    return lines(tmp_path / "pairs" / "test.jsonl", rows)


def _renamed(teacher):
    other = copy.copy(teacher)
    other.fingerprint = "teacher-other"
    return other


@pytest.fixture
def folders(tmp_path, beir, pairs):
    """A folder of every form."""
    texts = sentences(60, seed=5)
    same = [{"sentence1": a, "sentence2": b, "label": n % 2} for n, (a, b) in enumerate(itertools.pairwise(texts))]
    labelled = [{"text": text, "label": f"c{n % 3}"} for n, text in enumerate(texts)]
    lines(tmp_path / "classes" / "train.jsonl", labelled)
    documents = {f"d{n}": text for n, text in enumerate(texts[:30])}
    queries = {f"q{n}": text for n, text in enumerate(sentences(8, seed=6))}
    return [
        pairs,
        lines(tmp_path / "same" / "test.jsonl", same),
        lines(tmp_path / "classes" / "test.jsonl", labelled[:30]),
        lines(tmp_path / "clusters" / "test.jsonl", labelled),
        lines(
            tmp_path / "ranked" / "test.jsonl",
            [{"query": texts[n], "positive": texts[n + 1 : n + 3], "negative": texts[n + 3 : n + 9]} for n in range(6)],
        ),
        beir(documents, queries, {query: {f"d{n}": 1, f"d{n + 9}": 2} for n, query in enumerate(queries)}),
    ]


def test_every_text_task_of_the_mock_run_passes(teacher, tmp_path):
    done = mteb.mock_run(model(teacher, tmp_path))
    assert done.all_passed
    assert sum(isinstance(status, mteb.TaskResult) for _, status in done.items()) >= 25


def test_scores_are_those_that_mteb_gives_the_model_without_leafkit(teacher, folders, tmp_path):
    tasks = [local_task(folder) for folder in folders]
    ours = run_mteb(model(teacher, tmp_path), tasks, tmp_path / "out")
    assert [outcome.type for outcome in ours] == [
        "STS", "PairClassification", "Classification", "Clustering", "Reranking", "Retrieval",
    ]  # fmt: skip
    for outcome, folder in zip(ours, folders, strict=True):
        assert outcome.failure is None
        plain = mteb.evaluate(
            teacher.model, [local_task(folder)], cache=None, co2_tracker=False, show_progress_bar=False
        )
        assert outcome.score == pytest.approx(plain.task_results[0].get_score(), abs=1e-3), outcome.name


def test_a_retrieval_score_is_that_of_our_own_judgement(teacher, folders, tmp_path):
    (outcome,) = run_mteb(model(teacher, tmp_path), [local_task(folders[-1])], tmp_path / "out")
    report = judge_retrieval(
        [load_collection(folders[-1])], teacher=teacher, student=teacher, out=tmp_path / "own", cache=tmp_path / "cache"
    )
    assert 0.1 < outcome.score < 0.9
    assert outcome.score == pytest.approx(report["summary"]["modes"]["teacher"]["ndcg_at_10"], abs=1e-5)


def test_texts_without_a_side_get_no_prompt_where_one_kind_has_none(teacher, pairs, tmp_path):
    asked = model(teacher, tmp_path)
    (outcome,) = run_mteb(asked, [local_task(pairs)], tmp_path / "out")
    assert asked.first_encoded == {"document": sentences(40)[0]}  # not "find: ..."
    left, right = (teacher.encode(sentences(40, seed=seed), "document") for seed in (3, 4))
    expected = spearmanr([n % 6 for n in range(40)], (left * right).sum(1)).statistic
    assert outcome.score == pytest.approx(expected, abs=1e-3)


def test_the_teacher_may_embed_the_documents(encoder, small, tmp_path):
    leaf, whole = encoder("leaf", blur=3.0), encoder("whole")
    meta = ModelMeta.create_empty(overwrites={"name": "local/leaf", "revision": "1"})
    asked = MtebModel(leaf, meta, tmp_path / "cache", documents=whole)
    run_mteb(asked, [local_task(small)], tmp_path / "out")
    assert {kind for kind, _ in leaf.encoded} == {"query"}
    assert {kind for kind, _ in whole.encoded} == {"document"}
    assert asked.embedding_report()["documents' encoder"]["embedded"] == 5  # of six, one is empty

    other = encoder("other")
    other.space = EmbeddingSpace(TeacherId("another", "1"), dim=64, normalized=True)
    with pytest.raises(SpaceMismatch):
        MtebModel(leaf, meta, tmp_path / "cache", documents=other)


def test_what_was_scored_is_kept_and_changed_data_is_scored_anew(teacher, pairs, tmp_path):
    def run():
        asked = model(teacher, tmp_path)
        (outcome,) = run_mteb(asked, [local_task(pairs)], tmp_path / "out")
        return outcome.score, bool(asked.first_encoded)

    first, encoded = run()
    assert encoded
    assert run() == (first, False)
    rows = [json.loads(line) for line in (pairs / "test.jsonl").read_text().splitlines()]
    lines(pairs / "test.jsonl", [row | {"score": 5 - row["score"]} for row in rows])
    again, encoded = run()
    assert encoded
    assert again == pytest.approx(-first, abs=1e-6)


def test_each_split_has_its_own_score(teacher, pairs, tmp_path):
    rows = [json.loads(line) for line in (pairs / "test.jsonl").read_text().splitlines()]
    lines(pairs / "dev.jsonl", [row | {"score": 5 - row["score"]} for row in rows])
    scores = []
    for split in ("test", "dev", "test"):
        asked = model(teacher, tmp_path)
        (outcome,) = run_mteb(asked, [local_task(pairs, split=split)], tmp_path / "out")
        scores.append(outcome.score)
        summary = write_summary(asked, [outcome], tmp_path / "out")
    assert scores == [scores[0], pytest.approx(-scores[0], abs=1e-6), scores[0]]
    assert scores[0] != 0
    assert {task["split"]: task["score"] for task in summary["tasks"]} == {"test": scores[2], "dev": scores[1]}


def is_json(path):
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return False
    return True


@pytest.mark.slow  # three starts of the command line, each with mteb's imports
def test_a_killed_run_goes_on_and_ends_with_the_scores_of_an_unbroken_one(teacher, folders, tmp_path):
    folder = tiny.save_teacher(tmp_path / "model")

    def command(out):
        data = [word for path in folders for word in ("--data", str(path))]
        return [sys.executable, "-m", "leafkit", "eval", "mteb", "--model", str(folder), "--out", str(out), *data]

    def scored(out):
        return list((out / "results").rglob("*-local.json"))

    run = subprocess.Popen(command(tmp_path / "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(scored(tmp_path / "killed")) < 2 and run.poll() is None:
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    assert 2 <= len(scored(tmp_path / "killed")) < len(folders)
    whole = [path for path in scored(tmp_path / "killed") if is_json(path)]  # the last may be cut short
    before = {path: path.stat().st_mtime_ns for path in whole}
    assert before
    results = []
    for out in ("killed", "whole"):
        subprocess.run(command(tmp_path / out), check=True, capture_output=True)
        results.append(json.loads((tmp_path / out / "mteb.json").read_text()))
    assert results[0]["tasks"] == results[1]["tasks"]
    assert len(results[0]["tasks"]) == len(folders)
    assert {path: path.stat().st_mtime_ns for path in before} == before  # not scored again


def test_a_score_that_is_no_number_is_a_failure(teacher, tmp_path):
    rows = [{"sentence1": "w1 w2", "sentence2": "w3", "score": n} for n in range(4)]
    asked = model(teacher, tmp_path)
    (outcome,) = run_mteb(asked, [local_task(lines(tmp_path / "alike" / "test.jsonl", rows))], tmp_path / "out")
    assert outcome.result is None
    assert "is nan: all texts may be alike" in outcome.failure
    assert write_summary(asked, [outcome], tmp_path / "out")["means"] == {}


def test_a_result_that_cannot_be_read_is_made_anew(teacher, pairs, tmp_path):
    (first,) = run_mteb(model(teacher, tmp_path), [local_task(pairs)], tmp_path / "out")
    (path,) = (tmp_path / "out" / "results").rglob("pairs-local.json")
    for broken in ("", "{}", "null", path.read_text()[:90]):
        path.write_text(broken)
        (again,) = run_mteb(model(teacher, tmp_path), [local_task(pairs)], tmp_path / "out")
        assert again.score == first.score


@pytest.mark.parametrize("labels", [("a", "b"), (2, 3), ("0", "1")])
def test_two_classes_may_have_any_names(teacher, tmp_path, labels):
    rows = [{"text": f"{tiny.WORDS[n % 2 * 9]} {tiny.WORDS[n]}", "label": labels[n % 2]} for n in range(40)]
    lines(tmp_path / "two" / "train.jsonl", rows)
    task = local_task(lines(tmp_path / "two" / "test.jsonl", rows))
    (outcome,) = run_mteb(model(teacher, tmp_path), [task], tmp_path / "out")
    assert outcome.failure is None
    assert outcome.score > 0.6


def test_another_checkpoint_never_gets_the_first_ones_scores(tmp_path, teacher, pairs):
    other = open_teacher(tiny.save_teacher(tmp_path / "other", normalize=False), precision="float32")
    next(iter(other.model[0].auto_model.parameters())).data.normal_()
    other.fingerprint = "teacher-changed"
    task = local_task(pairs)
    (first,) = run_mteb(model(teacher, tmp_path), [task], tmp_path / "out")
    (second,) = run_mteb(model(other, tmp_path), [local_task(pairs)], tmp_path / "out")
    assert first.score != second.score
    (again,) = run_mteb(model(teacher, tmp_path), [task], tmp_path / "out")
    assert again.score == first.score
    assert len(list((tmp_path / "out" / "results" / "local__small").iterdir())) == 2


def test_mteb_reads_what_was_written(teacher, folders, tmp_path):
    asked = model(teacher, tmp_path, name="us/leaf")
    outcomes = run_mteb(asked, [local_task(folder) for folder in folders], tmp_path / "out")
    cache = mteb.ResultCache(tmp_path / "out")
    for outcome in outcomes:
        loaded = cache.load_task_result(outcome.name, asked.mteb_model_meta)
        assert loaded.get_score() == outcome.score
    meta = json.loads(
        (tmp_path / "out/results/us__leaf" / asked.mteb_model_meta.revision / "model_meta.json").read_bytes()
    )
    assert (meta["name"], meta["embed_dim"], meta["use_instructions"]) == ("us/leaf", 32, True)
    assert meta["n_embedding_parameters"] == (7 + len(tiny.WORDS)) * 32
    names = {}
    exec(write_model_meta(asked, tmp_path / "out").read_text(), names)
    assert names["model_meta"].loader_kwargs == {"model_prompts": {"query": "find: ", "document": ""}}
    (loaded,) = cache.load_results(models=[names["model_meta"]]).model_results
    assert {result.task_name for result in loaded.task_results} == {outcome.name for outcome in outcomes}


def test_a_failing_task_leaves_the_others_their_scores(teacher, pairs, tmp_path):
    asked = model(teacher, tmp_path)
    outcomes = run_mteb(asked, [*named_tasks(["STS12"]), local_task(pairs)], tmp_path / "out")
    assert outcomes[0].score is None
    assert "hub" in outcomes[0].failure.lower()
    assert outcomes[1].failure is None
    summary = write_summary(asked, outcomes, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "mteb.json").read_bytes()) == summary
    assert summary["means"] == {"STS": {"tasks": 1, "score": outcomes[1].score}}
    again = write_summary(asked, outcomes[:1], tmp_path / "out")  # another run of the model: what was scored stays
    assert [task["name"] for task in again["tasks"]] == ["pairs-local", "STS12"]
    assert again["means"] == summary["means"]
    require_own(tmp_path / "out", teacher)
    with pytest.raises(UsageError, match="is of local/small at .*: choose another --out"):
        require_own(tmp_path / "out", teacher, _renamed(teacher))


def test_folders_that_are_no_task_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        local_task(tmp_path / "nowhere")
    with pytest.raises(InputError, match="splits found: dev"):
        local_task(lines(tmp_path / "dev" / "dev.jsonl", [{"text": "a", "label": "b"}]))
    blank = lines(tmp_path / "blank" / "test.jsonl", [])
    (blank / "test.jsonl").write_text("\n\n")
    with pytest.raises(InputError, match="holds no rows"):
        local_task(blank)
    with pytest.raises(InputError, match="all 2 scores are the same"):
        local_task(
            lines(tmp_path / "flat" / "test.jsonl", [{"sentence1": "a", "sentence2": "b", "score": 1}] * 2)
        ).load_data()
    with pytest.raises(InputError, match=r"test.jsonl:1: has the fields a"):
        local_task(lines(tmp_path / "fields" / "test.jsonl", [{"a": 1}]))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "a", "label": "b"}, None], "expected a JSON object"),
        ([{"sentence1": "a", "sentence2": "b", "label": label} for label in (0, 2)], "label is 2, expected 0 or 1"),
        ([{"sentence1": "a", "sentence2": "b", "score": score} for score in (0, "high")], "score is 'high'"),
        ([{"text": "a", "label": "b"}, {"label": "b"}], "text is None"),
        ([{"sentence1": "a", "sentence2": "b", "score": score} for score in (0, float("nan"))], "score is nan"),
        ([{"sentence1": "a", "sentence2": "b", "score": score} for score in (0, True)], "score is True"),
        ([{"query": "a", "positive": texts, "negative": ["b"]} for texts in (["c"], [7])], r"positive is \[7\]"),
        ([{"query": "a", "positive": ["b"], "negative": texts} for texts in (["c"], "c")], "negative is 'c'"),
    ],
)
def test_a_broken_line_is_named(tmp_path, rows, message):
    task = local_task(lines(tmp_path / "broken" / "test.jsonl", rows))
    with pytest.raises(InputError, match=rf"test.jsonl:2: {message}"):
        task.load_data()


def test_unknown_names_are_refused():
    with pytest.raises(UsageError, match="Nope"):
        named_tasks(["Nope"])
    with pytest.raises(UsageError, match="Nope"):
        named_tasks(benchmark="Nope")
    assert [task.metadata.name for task in named_tasks(["STS12", "SciFact"])] == ["STS12", "SciFact"]


def test_a_tasks_collection_is_that_of_its_folder(small):
    ours, folders = task_collection(local_task(small), name="small"), load_collection(small)
    assert (ours.qrels, ours.split, ours.empty_documents) == (folders.qrels, "test", 1)
    for own, read in ((ours.documents, folders.documents), (ours.queries, folders.queries)):
        assert [(row.id, row.kind, row.text) for row in own] == [(row.id, row.kind, row.text) for row in read]


def test_data_sets_of_the_hub_are_known_by_name_and_refused_offline():
    with pytest.raises(UsageError, match="there is no data set 'nope': expected one of arguana, "):
        hub_collections("nope")
    with pytest.raises(UsageError, match="STS12 is STS in mteb"):
        hub_collections("STS12")
    for name in ("scifact", "cqadupstack"):
        with pytest.raises(TeacherError, match=f"data set {name}: .* Give a folder"):
            hub_collections(name)
