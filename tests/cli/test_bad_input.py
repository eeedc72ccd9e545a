"""What a user may get wrong, and what may break under a command: one typed line, the right code, nothing lost."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed (extra: train)")

from leafkit.students import open_student
from tests.cli.test_cli import leafkit
from tests.tiny import texts


@pytest.fixture(scope="module")
def leaf(store, tmp_path_factory):
    from leafkit.training import distil, preset

    out = tmp_path_factory.mktemp("leaves") / "leaf"
    distil(preset("layers:1", data=[store], epochs=0.2), out)
    return out


def lines(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


BAD_TEXTS = [
    (b"[" * 100_000, "jsonl", ":1: is not JSON"),
    (b'{"_id": "\\ud800", "text": "w1"}\n', "jsonl", ":1: half of a surrogate pair"),
    (b"text,text\na,b\n", "csv", "two columns called 'text'"),
    (b"PAR1 and nothing else PAR1", "parquet", "is not parquet"),
]


@pytest.mark.parametrize(("content", "suffix", "says"), BAD_TEXTS)
def test_a_bad_file_is_one_line_with_its_place(tmp_path, teacher_folder, content, suffix, says):
    file = tmp_path / f"bad.{suffix}"
    file.write_bytes(content)
    out, error = leafkit("embed", file, "--teacher", teacher_folder, "--store", tmp_path / "s", code=3)
    assert out == ""
    assert f"{file}" in error
    assert says in error
    assert not (tmp_path / "s").exists()


BAD_COMMANDS = [
    (["distill", "--student", "layers:²"], 2, "expected layers:N"),
    (["distill", "--student", "static", "--epochs", "inf"], 2, "finite"),
    (["distill", "--student", "static", "--seed", "-1"], 2, "seed"),
    (["distill", "--student", "layers:99"], 2, "the base model has 3 layers"),
    (["distill", "--student", "layers:1", "--preset", "fats"], 2, "no preset 'fats'"),
    (["distill", "--student", "layers:1", "--learning-rate", "0"], 2, "learning_rate"),
    (["distill", "--student", "layers:1", "--development", "nowhere"], 3, "nowhere"),
    (["distill", "--student", "layers:1", "--recipe", "nowhere.toml"], 2, "nowhere.toml: is no recipe"),
]


@pytest.mark.parametrize(("command", "code", "says"), BAD_COMMANDS)
def test_a_distillation_that_cannot_be_meant_leaves_nothing(tmp_path, store, command, code, says):
    _, error = leafkit(*command, "--store", store, "--out", tmp_path / "leaf", code=code)
    assert says in error
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_leafkits_is_refused_and_left_as_it_was(tmp_path, store):
    (tmp_path / "proj" / "blocks" / "src").mkdir(parents=True)
    (tmp_path / "proj" / "blocks" / "src" / "main.py").write_text("code")
    _, error = leafkit("index", "create", "--store", store, "--out", tmp_path / "proj", code=2)
    assert "holds 'blocks' and is no leafkit.index folder" in error
    assert (tmp_path / "proj" / "blocks" / "src" / "main.py").read_text() == "code"


def test_a_folder_beside_the_index_is_not_touched(tmp_path, teacher_folder):
    (tmp_path / "i.embedding").mkdir()
    (tmp_path / "i.embedding" / "thesis.txt").write_text("precious")
    corpus = lines(tmp_path / "c.jsonl", {"text": "w1"}, {"text": "w2 w3"})
    leafkit("index", "create", "--corpus", corpus, "--model", teacher_folder, "--out", tmp_path / "i")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.jsonl", "i", "i.embedding"]
    assert (tmp_path / "i.embedding" / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("record", "says"),
    [({"text": "w2", "kind": "query"}, ":2: is a query"), ({"text": "w2", "_id": "a"}, ":2: the id 'a' stands at")],
)
def test_a_corpus_that_no_index_can_hold_is_refused_before_it_is_embedded(tmp_path, teacher_folder, record, says):
    corpus = lines(tmp_path / "c.jsonl", {"text": "w1", "_id": "a"}, record)
    command = ("index", "create", "--corpus", corpus, "--model", teacher_folder, "--out", tmp_path / "i")
    assert says in leafkit(*command, code=3)[1]
    assert [path.name for path in tmp_path.iterdir()] == ["c.jsonl"]


def test_an_index_whose_making_was_cut_off_is_refused_and_can_be_made_again(tmp_path, store, teacher_folder):
    limited = (
        "import resource, signal; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000));"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); from leafkit.cli import entry; entry()"
    )
    create = ["index", "create", "--store", str(store), "--out", str(tmp_path / "i")]
    full = subprocess.run([sys.executable, "-c", limited, *create], capture_output=True, text=True)
    assert full.returncode == 3
    assert "cannot write" in full.stderr
    search = ("search", "--index", tmp_path / "i", "--model", teacher_folder, "w1")
    assert "Its making was cut off" in leafkit(*search, code=3)[1]
    leafkit(*create)
    assert leafkit(*search)[0]


@pytest.mark.parametrize("file", ["modules.json", "3_Dense/model.safetensors", "config.json"])
def test_a_leaf_that_lost_or_changed_a_file_is_refused(tmp_path, leaf, file):
    copy = tmp_path / "leaf"
    shutil.copytree(leaf, copy)
    (copy / file).unlink()
    if file.endswith(".safetensors"):
        (copy / file).write_bytes((leaf / file).read_bytes()[:-4] + b"\0\0\0\1")
    from leafkit.errors import LeafkitError

    with pytest.raises(LeafkitError, match=r"expected the files of|modules.json nor|cannot be loaded"):
        open_student(copy)
    open_student(leaf)


def test_what_a_user_keeps_in_a_leafs_folder_does_not_change_it(tmp_path, leaf):
    copy = tmp_path / "leaf"
    shutil.copytree(leaf, copy)
    (copy / "report").mkdir()
    (copy / "report" / "report.json").write_text("{}")
    (copy / "notes.txt").write_text("the one for the meeting")
    assert open_student(copy).fingerprint == open_student(leaf).fingerprint


def test_a_leaf_keeps_its_own_token_limit_below_its_teachers(tmp_path, store, teacher_folder):
    from sentence_transformers import SentenceTransformer

    from leafkit.training import distil, preset

    short = SentenceTransformer(str(teacher_folder), device="cpu")
    short.max_seq_length = 8
    short.save(str(tmp_path / "short"))
    distil(preset(str(tmp_path / "short"), data=[store], epochs=0.2), tmp_path / "leaf")
    student, text = open_student(tmp_path / "leaf", precision="float32"), " ".join(f"w{number}" for number in range(20))
    plain = SentenceTransformer(str(tmp_path / "leaf"), device="cpu").encode_document([text])
    np.testing.assert_allclose(student.encode([text], "document"), plain, atol=1e-6)
    assert student.truncated == 1


def test_a_folder_where_the_run_would_work_is_not_touched(tmp_path, store):
    (tmp_path / "leaf.run").mkdir()
    (tmp_path / "leaf.run" / "thesis.txt").write_text("precious")
    _, error = leafkit("distill", "--store", store, "--student", "layers:1", "--out", tmp_path / "leaf", code=2)
    assert "holds 'thesis.txt'" in error
    assert (tmp_path / "leaf.run" / "thesis.txt").read_text() == "precious"


def test_a_finished_run_on_other_texts_is_not_taken_for_this_one(tmp_path, store, teacher_folder):
    from leafkit.errors import RecipeError
    from leafkit.store import EmbeddingStore, embed_texts
    from leafkit.teachers import open_teacher
    from leafkit.training import distil, preset

    distil(preset("layers:1", data=[store], epochs=0.2), tmp_path / "leaf")
    teacher = open_teacher(teacher_folder)
    embed_texts(teacher, texts(60), EmbeddingStore.create(tmp_path / "s", teacher.space, model=str(teacher_folder)))
    with pytest.raises(RecipeError, match="was trained on other texts"):
        distil(preset("layers:1", data=[tmp_path / "s"], epochs=0.2), tmp_path / "leaf", resume=True)


def test_a_corpus_is_embedded_anew_when_the_run_before_had_another_model(tmp_path, teacher_folder, leaf):
    from leafkit.store import EmbeddingStore

    aside = tmp_path / ".i.embedding"  # as a killed run with the leaf leaves it
    student = open_student(leaf)
    EmbeddingStore.create(aside, student.space, made_by=student.fingerprint)
    corpus = tmp_path / "c.csv"
    corpus.write_text("body\nw1 w2\n")
    made = ("index", "create", "--corpus", corpus, "--model", teacher_folder, "--text-field", "body")
    leafkit(*made, "--out", tmp_path / "i")
    assert not aside.exists()


def test_vectors_are_imported_beside_a_named_column(tmp_path, teacher_folder):
    from leafkit.store import EmbeddingStore

    (tmp_path / "t.csv").write_text("body\nw1\nw2\n")
    np.save(tmp_path / "v.npy", np.eye(32, dtype=np.float32)[:2])
    files = ("--texts", tmp_path / "t.csv", "--vectors", tmp_path / "v.npy", "--text-field", "body")
    leafkit("import", *files, "--teacher", teacher_folder, "--store", tmp_path / "s")
    store = EmbeddingStore.open(tmp_path / "s")
    assert sorted(row.text for row in store.rows()) == ["w1", "w2"]
    np.testing.assert_array_equal(store.lookup(["w1", "w2"], "document"), np.eye(32)[:2])


def test_a_package_that_will_be_needed_is_asked_for_before_any_work():
    from leafkit.cli.console import require_packages
    from leafkit.errors import MissingExtra

    require_packages("json", extra="judge")
    with pytest.raises(MissingExtra, match=r"no_such_module is not installed: pip install 'leafkit\[judge\]'"):
        require_packages("no_such_module", extra="judge")


def test_an_exported_pair_is_no_teacher(tmp_path, leaf, teacher_folder):
    leafkit("export", "--student", leaf, "--teacher", teacher_folder, "--out", tmp_path / "pair")
    texts_file = lines(tmp_path / "t.jsonl", {"text": "w1"})
    command = ("embed", texts_file, "--teacher", tmp_path / "pair", "--store", tmp_path / "s")
    assert "is a Router" in leafkit(*command, code=3)[1]


def test_two_writers_that_opened_the_store_before_either_added_lose_nothing(tmp_path, teacher_folder):
    from leafkit.store import EmbeddingStore, embed_texts
    from leafkit.teachers import open_teacher

    teacher = open_teacher(teacher_folder)
    first = EmbeddingStore.create(tmp_path / "s", teacher.space)
    second = EmbeddingStore.open(tmp_path / "s")
    rows = texts(20)
    embed_texts(teacher, rows[:12], first)
    report = embed_texts(teacher, rows[6:], second)
    assert report.known == 6
    assert list(EmbeddingStore.open(tmp_path / "s").rows()) == [*first.rows(), *list(second.rows())[12:]]
    assert len(EmbeddingStore.open(tmp_path / "s")) == 20


def test_the_title_column_as_text_is_not_doubled(tmp_path):
    from leafkit.io import read_texts

    file = lines(tmp_path / "t.jsonl", {"title": "Blue whales", "text": "x"})
    assert [row.text for row in read_texts([file], text_field="title")] == ["Blue whales"]


def test_float64_vectors_are_imported_as_float32_and_said_so(tmp_path):
    from leafkit.io import read_vectors

    np.save(tmp_path / "v.npy", np.ones((2, 3)))
    with pytest.warns(UserWarning, match="read as float32"):
        assert read_vectors(tmp_path / "v.npy").dtype == np.float32


def test_a_store_knows_its_teacher_from_any_folder(tmp_path, teacher_folder, monkeypatch):
    from leafkit.store import EmbeddingStore
    from leafkit.teachers import open_teacher

    monkeypatch.chdir(teacher_folder.parent)
    space = open_teacher(teacher_folder.name).space
    EmbeddingStore.create(tmp_path / "s", space, model=teacher_folder.name)
    assert EmbeddingStore.open(tmp_path / "s").model == str(teacher_folder)


SETTINGS = [
    ("LEAFKIT_CPU_LEVEL", "nonsense", "this CPU and build have"),
    ("LEAFKIT_NUM_THREADS", "²", "expected a number from 1"),
    ("LEAFKIT_NUM_THREADS", "99999999999999999999", "expected a number from 1"),
]


@pytest.mark.parametrize(("name", "value", "says"), SETTINGS)
def test_a_setting_that_cannot_be_meant_is_a_usage_error(monkeypatch, name, value, says):
    monkeypatch.setenv(name, value)
    if name == "LEAFKIT_CPU_LEVEL":
        pytest.importorskip("leafkit._C", reason="the native module was not built")
    assert says in leafkit("info", code=2)[1]


@pytest.mark.parametrize("grade", ["--5", "+-1", "99999999999999999999"])
def test_a_grade_that_is_no_small_integer_is_refused_with_its_line(tmp_path, grade):
    from leafkit.errors import InputError
    from leafkit.io.beir import read_qrels_file

    (tmp_path / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\nq\td\t{grade}\n")
    with pytest.raises(InputError, match=r"test.tsv:2: grade"):
        read_qrels_file(tmp_path / "test.tsv")


@pytest.mark.parametrize("damage", ["directory", "no maker"])
def test_a_damaged_manifest_is_corrupt_data(tmp_path, store, damage):
    copy = tmp_path / "s"
    shutil.copytree(store, copy)
    manifest = copy / "manifest.json"
    value = json.loads(manifest.read_bytes())
    manifest.unlink()
    if damage == "directory":
        manifest.mkdir()
    else:
        manifest.write_text(json.dumps({**value, "user": {}}))
    command = ("distill", "--store", copy, "--student", "static", "--out", tmp_path / "leaf")
    assert "manifest.json: expected" in leafkit(*command, code=3)[1]


def test_ctrl_c_says_that_what_was_done_is_kept_and_the_run_goes_on(tmp_path, store):
    command = ["distill", "--store", store, "--student", "layers:1", "--out", tmp_path / "leaf", "--epochs", "200"]
    process = subprocess.Popen(
        [sys.executable, "-c", "from leafkit.cli import entry; entry()", *map(str, command)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    log = tmp_path / "leaf.run" / "log.jsonl"
    while process.poll() is None and not (log.exists() and '"step"' in log.read_text()):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert "interrupted: what was done is kept" in error
    assert list((tmp_path / "leaf.run" / "checkpoints").iterdir())
    shutil.rmtree(tmp_path / "leaf.run")


def test_a_full_disk_while_the_leaf_is_written_is_a_storage_error(tmp_path, store):
    limited = (
        "import resource, signal; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000));"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); from leafkit.cli import entry; entry()"
    )
    command = ["distill", "--store", store, "--student", "layers:1", "--out", tmp_path / "leaf", "--epochs", "0.2"]
    done = subprocess.run(
        [sys.executable, "-c", limited, *map(str, command)],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 3, done.stderr
    assert "cannot write" in done.stderr
    assert not (tmp_path / "leaf").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_output_that_cannot_be_written_is_an_error():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", "from leafkit.cli import entry; entry()", "info"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 3
    assert "the output cannot be written" in done.stderr
