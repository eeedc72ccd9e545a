"""The command line as a user meets it: real processes, whole outputs, exit codes."""

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed (extra: train)")

from tests.tiny import WORDS, texts

ROOT = Path(__file__).parents[2]


def leafkit(*arguments, code=0):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", "from leafkit.cli.main import main; main()", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


COMMANDS = [[], ["info"], ["selftest"], ["embed"], ["import"], ["distill"], ["runs"], ["index"], ["index", "create"],
            ["search"], ["export"], ["eval"], ["eval", "retrieval"], ["eval", "mteb"], ["eval", "compare"],
            ["eval", "card"], ["demo"]]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command):
    out, _ = leafkit(*command, "--help")
    assert "Usage" in out
    assert "Example: leafkit" in out or command in ([], ["index"], ["eval"])


def test_info_says_what_answers():
    value = json.loads(leafkit("info", "--json")[0])
    assert value["native_backend"] in ("native", "numpy")
    assert {"version", "cpu_level", "cuda", "reason", "threads"} <= set(value)
    forced = json.loads(subprocess.run(
        [sys.executable, "-c", "from leafkit.cli.main import main; main()", "info", "--json"],
        capture_output=True, text=True, check=True, env={**os.environ, "LEAFKIT_NATIVE": "0"},
    ).stdout)  # fmt: skip
    assert forced["native_backend"] == "numpy"


def test_the_selftest_passes_and_says_where_no_gpu_can_be_used():
    *checks, last = leafkit("selftest")[0].splitlines()
    assert last == f"{len(checks)} of {len(checks)} checks passed"
    if json.loads(leafkit("info", "--json")[0])["cuda"] != "ready":
        out, told = leafkit("selftest", "--cuda", code=4)
        assert out == ""
        assert "error: the GPU cannot be used" in told


def test_the_road_from_texts_to_a_report(tmp_path, teacher_folder):
    beir = tmp_path / "small"
    (beir / "qrels").mkdir(parents=True)
    documents = [row.text for row in texts(60)]
    lines = [json.dumps({"_id": f"d{n}", "text": text}) + "\n" for n, text in enumerate(documents)]
    (beir / "corpus.jsonl").write_text("".join(lines))
    queries = [json.dumps({"_id": f"q{n}", "text": " ".join(documents[n].split()[:3])}) + "\n" for n in range(5)]
    (beir / "queries.jsonl").write_text("".join(queries))
    (beir / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "".join(f"q{n}\td{n}\t1\n" for n in range(5))
    )
    store, leaf, index = tmp_path / "s", tmp_path / "leaf", tmp_path / "index"
    report = json.loads(leafkit("embed", beir, "--teacher", teacher_folder, "--store", store, "--json")[0])
    assert report["embedded"] == report["rows"]
    out, _ = leafkit("embed", beir, "--teacher", teacher_folder, "--store", store)
    assert out.startswith("0 texts embedded")
    leafkit("distill", "--store", store, "--student", "layers:1", "--out", leaf, "--epochs", 1)
    leafkit("index", "create", "--store", store, "--out", index)
    leafkit("index", "create", "--corpus", beir, "--model", leaf, "--out", tmp_path / "own")
    hits = json.loads(leafkit("search", "--index", index, "--model", leaf, "-k", 3, "w1 w2", "--json")[0])
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    judged = ("--data", beir, "--teacher", teacher_folder, "--student", leaf, "--out", tmp_path / "report")
    leafkit("eval", "retrieval", *judged)
    saved = json.loads((tmp_path / "report" / "report.json").read_text())
    assert [row["mode"] for row in saved["results"]] == ["teacher", "symmetric", "asymmetric"]
    row = saved["results"][2]
    assert {"dataset", "dim", "precision", "ndcg_at_10", "recall_at_100", "mrr_at_10", "share_of_teacher"} <= set(row)
    assert saved["summary"]["mean_cosine_to_teacher"]
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert saved["training"]["curves"]["cosine"]["values"]
    assert "<h2>Training</h2>" in page
    assert "data:image/svg+xml;base64," in page
    runs = tmp_path / "report" / "runs"
    for name in ("gone.test.teacher.trec", "own.trec"):
        (runs / name).write_text("of an earlier report, or a user's own")
    (runs / "written.txt").write_text("gone.test.teacher.trec\n" + (runs / "written.txt").read_text())
    leafkit("eval", "retrieval", *judged)
    assert not (runs / "gone.test.teacher.trec").exists()
    assert (runs / "own.trec").exists()
    _, said = leafkit("eval", "retrieval", *judged, "--data", tmp_path / "nowhere", "--datasets", "nope", code=3)
    assert "not judged: " in said
    assert "no BEIR folder" in said
    assert "there is no data set 'nope'" in said
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["summary"]["collections"] == 1
    assert len(report["not_judged"]) == 2
    leafkit("eval", "card", tmp_path / "report", "--out", leaf / "README.md")
    assert "leafkit" in (leaf / "README.md").read_text()
    shown, _ = leafkit("eval", "compare", tmp_path / "report", tmp_path / "report")
    assert shown.splitlines()[1].split()[:2] == ["small", "teacher"]
    assert shown.splitlines()[1].split()[4] == "+0.0000"
    leaf.rename(tmp_path / "other")
    another = (
        "--data",
        beir,
        "--teacher",
        teacher_folder,
        "--student",
        tmp_path / "other",
        "--out",
        tmp_path / "report",
    )
    _, error = leafkit("eval", "retrieval", *another, code=2)
    assert "is the report of leaf (" in error
    assert "choose another --out" in error
    blocked = (*another[:-1], tmp_path / "other" / "config.json" / "report")
    _, error = leafkit("eval", "retrieval", *blocked, code=3)
    assert "cannot write" in error
    new = tmp_path / "new"
    new.touch()
    assert {path.stat().st_mode for path in (tmp_path / "other").rglob("*") if path.is_file()} == {new.stat().st_mode}
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    code = code.replace('"texts.index"', repr(str(index))).replace('"leaf"', repr(str(tmp_path / "other")))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 10


def test_mteb_scores_folders_and_says_which_task_failed(tmp_path, teacher_folder):
    pytest.importorskip("mteb", reason="mteb is not installed (extra: eval)")
    folder, out = tmp_path / "pairs", tmp_path / "out"
    folder.mkdir()
    pairs = [row.text for row in texts(24)]
    rows = [{"sentence1": a, "sentence2": b, "score": n % 5} for n, (a, b) in enumerate(itertools.pairwise(pairs))]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = ("eval", "mteb", "--model", teacher_folder, "--data", folder, "--out", out)
    shown, said = leafkit(*asked, "--tasks", "STS12", code=4)
    assert [line.split()[:2] for line in shown.splitlines()[1:]] == [
        ["pairs-local", "STS"],
        ["STS12", "STS"],
        ["mean", "of"],
    ]
    assert "STS12 failed: " in said
    assert f"first document as it was encoded: {pairs[0][:20]!r}"[:-1] in said
    summary = json.loads(leafkit(*asked, "--json")[0])
    assert summary["tasks"][0]["score"] == pytest.approx(float(shown.splitlines()[1].split()[-1]), abs=1e-4)
    assert (summary["model"], summary["means"]["STS"]["tasks"]) == (f"local/{teacher_folder.name}", 1)
    _, error = leafkit("eval", "mteb", "--model", teacher_folder, "--out", out, code=2)
    assert "give --data FOLDER, --tasks NAMES or --benchmark NAME" in error
    _, said = leafkit(*asked, "--data", tmp_path / "nowhere", code=3)
    assert "not evaluated: " in said
    _, error = leafkit(*asked, "--data", folder, code=2)
    assert "two tasks are called 'pairs-local'" in error
    _, error = leafkit(*asked, "--name", "leaf", code=2)
    assert "expected ORGANISATION/MODEL" in error


def test_errors_are_one_line_with_their_code(tmp_path, teacher_folder):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "x"}\n{"text": null}\n')
    store = tmp_path / "s"
    refused = [
        (("embed", bad, "--teacher", teacher_folder, "--store", store), 3, "bad.jsonl:2: "),
        (("embed", tmp_path / "none.jsonl", "--teacher", teacher_folder, "--store", store), 3, "no such file"),
        (("distill", "--store", store, "--student", "layers:x", "--out", tmp_path / "l"), 2, "layers:N"),
        (("distill", "--store", store, "--student", "static", "--out", tmp_path / "l"), 3, "no manifest"),
        (("index", "create", "--out", tmp_path / "i"), 2, "give --store, or --corpus with --model"),
        (("search", "--index", tmp_path / "i", "--model", teacher_folder, "x"), 3, "no manifest"),
        (("embed", "--store", store), 2, "Missing argument"),
        (
            (
                "distill",
                "--store",
                store,
                "--student",
                "static",
                "--out",
                tmp_path / "l",
                "--minutes",
                1,
                "--epochs",
                1,
            ),
            2,
            "give --minutes or --epochs",
        ),
    ]
    for arguments, code, says in refused:
        out, error = leafkit(*arguments, code=code)
        assert out == ""
        assert says in error
        assert "Traceback" not in error
    assert not store.exists()
    assert not list(tmp_path.glob("l*"))


def test_a_full_disk_is_one_clear_error_and_keeps_what_was_there(tmp_path, teacher_folder):
    good = tmp_path / "good.jsonl"
    good.write_text('{"text": "w1"}\n')
    store = tmp_path / "s"
    leafkit("embed", good, "--teacher", teacher_folder, "--store", store)
    many = tmp_path / "many.jsonl"
    many.write_text(
        "".join(json.dumps({"text": " ".join(WORDS[n % 50 : n % 50 + 9]) + f" {n}"}) + "\n" for n in range(900))
    )
    limited = (  # files of at most 20,000 bytes: what a full disk does, for one process
        "import resource, signal; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000));"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); from leafkit.cli.main import main; main()"
    )
    command = [
        sys.executable,
        "-c",
        limited,
        "embed",
        str(many),
        "--teacher",
        str(teacher_folder),
        "--store",
        str(store),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    assert done.returncode == 3, done.stderr
    assert "cannot write" in done.stderr
    out, _ = leafkit("embed", good, "--teacher", teacher_folder, "--store", store)
    assert "1 were there" in out


def test_time_left_counts_from_the_start_of_a_stage_that_comes_again(monkeypatch):
    from leafkit.cli import console
    from leafkit.progress import Progress

    said, now = [], [0.0]
    monkeypatch.setattr(console, "say", said.append)
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    line = console._lines()
    for at, done in ((0, 0), (1, 5), (2, 10), (1000, 1), (1011, 2), (1020, 10)):
        now[0] = at
        line(Progress("start", done, 10))
    assert [text.split() for text in said] == [
        ["start", "10/10", "0", "s", "left"],
        ["start", "2/10", "44", "s", "left"],
        ["start", "10/10", "0", "s", "left"],
    ]


def test_options_go_before_the_recipes_file_and_that_before_its_preset(tmp_path):
    from leafkit.cli.distil import _asked

    path = tmp_path / "r.toml"
    path.write_text('preset = "static"\nstudent = "layers:3"\nweight_decay = 0.5\ndata = ["s"]\n')
    own, fast = _asked(path, None), _asked(path, "fast", minutes=1.0, batch_size=8)
    assert (own.batch_size, own.learning_rate, own.weight_decay, own.epochs) == (256, 3e-3, 0.5, 4)
    assert (fast.batch_size, fast.learning_rate, fast.weight_decay, fast.minutes) == (8, 2e-4, 0.5, 1)
