"""`leafkit runs` as a user meets it."""

import json
import xml.etree.ElementTree as ElementTree

import pytest

pytest.importorskip("torch", reason="torch is not installed (extra: train)")

from leafkit.training import open_log
from tests.cli.test_cli import leafkit


def write(folder, count, *, end, ndcg):
    with open_log(folder) as log:
        log.write(event="start", step=0, texts=0, seconds=0.0, cosine=0.5, world=1)
        for step in range(1, count + 1):
            at = {"step": step, "texts": 10 * step, "seconds": step / 2}
            log.write(event="step", **at, loss=1 - step / 200, rate=0.1, gradient_norm=1.0)
            if step % 25 == 0:
                measured = {"ndcg_at_10_symmetric": 0.3 + step / 1000, "ndcg_at_10_asymmetric": 0.4} if ndcg else {}
                log.write(event="gate", **at, cosine=0.5 + step / 1000, **measured)
        if end:
            log.write(event="end", **at, cosine=0.75)
    (folder / "recipe.toml").write_text('student = "layers:3"\n')


@pytest.fixture
def two(tmp_path):
    write(tmp_path / "leaf", 100, end=True, ndcg=True)
    write(tmp_path / "other.run", 40, end=False, ndcg=False)
    return tmp_path


TABLES = """\
leaf
layers:3
1,000 texts, 100 steps, 50 s

                                       nDCG@10      nDCG@10
  texts         loss       cosine    symmetric   asymmetric
 ───────────────────────────────────────────────────────────
      0            –       0.5000            –            –
    200       0.9475            –            –            –
    400       0.8475       0.5250       0.3250       0.4000
    600       0.7475       0.5500       0.3500       0.4000
    800       0.6475       0.5750       0.3750       0.4000
  1,000       0.5475       0.7500       0.4000       0.4000

          █▇▆▆▅▄▃▃▂▁        ▁▂▂▃█         ▁▃▆█         ▄▄▄▄

other.run
layers:3
400 texts, 40 steps, 20 s, unfinished

                                       nDCG@10      nDCG@10
  texts         loss       cosine    symmetric   asymmetric
 ───────────────────────────────────────────────────────────
      0            –       0.5000            –            –
    200       0.9475            –            –            –
    400       0.8475       0.5250            –            –

          ██▇▇▇▆▆▆▆▅           ▁▂
"""


def test_two_runs_have_a_table_each_at_the_same_marks(two, monkeypatch):
    monkeypatch.chdir(two)
    monkeypatch.setenv("COLUMNS", "80")
    out, error = leafkit("runs", "leaf", "other.run")
    assert "\n".join(line.rstrip() for line in out.splitlines()).strip() == TABLES.strip()
    assert error == ""
    monkeypatch.setenv("COLUMNS", "160")
    wide, _ = leafkit("runs", ".")  # the folder of both
    assert wide.splitlines()[0].split() == ["leaf", "other.run"]


def test_json_has_every_point(two):
    first, second = json.loads(leafkit("runs", two, "--json")[0])
    assert (first["student"], first["finished"], second["finished"]) == ("layers:3", True, False)
    assert (first["folder"], first["texts"], first["steps"]) == (str(two / "leaf"), 1000, 100)
    assert len(first["curves"]["loss"]["values"]) == 100
    assert first["curves"]["cosine"] == {
        "steps": [0, 25, 50, 75, 100], "texts": [0, 250, 500, 750, 1000], "values": [0.5, 0.525, 0.55, 0.575, 0.75],
    }  # fmt: skip
    assert "ndcg_at_10_symmetric" not in second["curves"]


def test_svg_has_the_curves_of_both_runs(two):
    pytest.importorskip("jinja2", reason="jinja2 is not installed (extra: judge)")
    _, error = leafkit("runs", two, "--svg", two / "curves.svg", "--json")
    assert f"curves: {two / 'curves.svg'}" in error
    root = ElementTree.parse(two / "curves.svg").getroot()
    names = [line[0].text for line in root.iter("{http://www.w3.org/2000/svg}polyline")]
    leaf, other = str(two / "leaf"), str(two / "other.run")
    assert names == [leaf, other, leaf, other, leaf, leaf]


def test_half_a_line_and_an_empty_log_are_runs_that_have_only_begun(tmp_path):
    for name, text in (("half", '{"event": "start", "st'), ("empty", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "log.jsonl").write_text(text)
    out, _ = leafkit("runs", tmp_path)
    assert out.count("nothing logged yet") == 2
    assert "nothing was logged yet" in leafkit("runs", tmp_path, "--svg", tmp_path / "c.svg", code=3)[1]
    assert not (tmp_path / "c.svg").exists()


def test_a_run_before_its_first_step_is_one_row(tmp_path):
    with open_log(tmp_path / "leaf.run") as log:
        log.write(event="start", step=0, texts=0, seconds=0.0, cosine=0.625, world=1)
    out, _ = leafkit("runs", tmp_path)
    rows = [line.split() for line in out.splitlines()]
    assert [row for row in rows if row[:1] == ["0"] and "texts," not in row] == [["0", "0.6250"]]


def test_a_folder_without_runs_is_refused(tmp_path):
    assert "holds no run" in leafkit("runs", tmp_path, code=3)[1]
    assert "there is no such folder" in leafkit("runs", tmp_path / "gone", code=3)[1]
    assert "Missing argument" in leafkit("runs", code=2)[1]
