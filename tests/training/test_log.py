import json
import math
import sys

import numpy as np
import pytest

from leafkit.errors import CorruptData, InputError, StorageError
from leafkit.training import RunLog, open_log, read_runs
from leafkit.training.log import Curve


def start(log, step=0, cosine=0.69):
    log.write(event="start", step=step, texts=32 * step, seconds=0.25 * step, cosine=cosine, world=1)


def steps(log, first, last, loss):
    for step in range(first, last + 1):
        log.write(
            event="step", step=step, texts=32 * step, seconds=0.25 * step, loss=loss, rate=1e-4, gradient_norm=0.5
        )


def gate(log, step, cosine, **more):
    log.write(event="gate", step=step, texts=32 * step, seconds=0.25 * step, cosine=cosine, **more)


@pytest.fixture
def run(tmp_path):
    """Ten steps with a gate in the middle, ended as it should."""
    folder = tmp_path / "leaf"
    with open_log(folder) as log:
        start(log)
        steps(log, 1, 5, 2.0)
        gate(log, 5, 0.7, ndcg_at_10_symmetric=0.4, ndcg_at_10_asymmetric=0.5)
        steps(log, 6, 10, 1.0)
        log.write(event="end", step=10, texts=320, seconds=2.5, cosine=0.8)
    (folder / "recipe.toml").write_text('student = "layers:3"\nseed = 1\n')
    return folder


def test_curves_are_what_was_written(run):
    log = RunLog.read(run)
    assert (log.student, log.steps, log.texts, log.seconds, log.finished) == ("layers:3", 10, 320, 2.5, True)
    assert log.curves["loss"].values.tolist() == [2.0] * 5 + [1.0] * 5
    assert log.curves["loss"].texts.tolist() == [32 * step for step in range(1, 11)]
    assert log.curves["loss"].steps.dtype == log.curves["loss"].texts.dtype == np.int64
    assert log.curves["cosine"].steps.tolist() == [0, 5, 10]
    assert log.curves["cosine"].values.tolist() == [0.69, 0.7, 0.8]
    assert log.curves["ndcg_at_10_asymmetric"].values.tolist() == [0.5]
    assert set(log.curves) == {
        "loss",
        "rate",
        "gradient_norm",
        "cosine",
        "ndcg_at_10_symmetric",
        "ndcg_at_10_asymmetric",
    }


def test_of_a_resumed_run_the_later_line_counts_and_steps_beyond_its_position_are_void(tmp_path):
    with open_log(tmp_path) as log:
        start(log)
        steps(log, 1, 9, 2.0)
        gate(log, 4, 0.7)
        gate(log, 8, 0.9)
        start(log, step=6, cosine=0.1)  # as the student started, not as it is at step 6
        steps(log, 7, 8, 3.0)
        steps(log, 8, 8, 1.0)
    log = RunLog.read(tmp_path)
    assert log.curves["loss"].steps.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert log.curves["loss"].values.tolist() == [2, 2, 2, 2, 2, 2, 3, 1]
    assert log.curves["cosine"].steps.tolist() == [0, 4]
    assert log.curves["cosine"].values.tolist() == [0.69, 0.7]
    assert not log.finished
    assert "ndcg_at_10_symmetric" not in log.curves


def test_a_log_cut_at_any_byte_is_its_whole_lines_and_can_be_gone_on_with(run, tmp_path):
    whole = (run / "log.jsonl").read_bytes()
    folder = tmp_path / "cut"
    folder.mkdir()
    for size in range(0, len(whole), 7):
        (folder / "log.jsonl").write_bytes(whole[:size])
        complete = [json.loads(line) for line in whole[: whole[:size].rfind(b"\n") + 1].splitlines()]
        last = complete[-1]["step"] if complete else 0
        assert RunLog.read(folder).steps in (last, last + 1)  # a whole object without its line break is one too
        with open_log(folder) as log:
            start(log, step=last)
        lines = (folder / "log.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines[:-1]] == complete
        assert RunLog.read(folder).steps == last


def test_an_empty_log_has_no_curves(tmp_path):
    (tmp_path / "log.jsonl").touch()
    log = RunLog.read(tmp_path)
    assert (log.curves, log.steps, log.texts, log.finished, log.student) == ({}, 0, 0, False, None)


BAD = [
    (b"nonsense\n", r"log.jsonl:2: expected a line of JSON, found .*nonsense"),
    (b"[1]\n", "log.jsonl:2: expected a JSON object"),
    (b'{"event": "step", "step": 1, "texts": "x", "seconds": 1}\n', 'log.jsonl:2: expected "event", "step"'),
    (
        b'{"event": "step", "step": 1, "texts": 1, "seconds": 1, "loss": "low"}\n',
        'log.jsonl:2: expected a number as "loss"',
    ),
]


@pytest.mark.parametrize(("line", "says"), BAD)
def test_a_line_that_no_run_writes_is_named(tmp_path, line, says):
    with open_log(tmp_path) as log:
        start(log)
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write(line)
    with pytest.raises(CorruptData, match=says):
        RunLog.read(tmp_path)


def test_a_damaged_recipe_is_named(run):
    (run / "recipe.toml").write_text("student = ")
    with pytest.raises(CorruptData, match=r"recipe.toml: expected TOML"):
        RunLog.read(run)


def test_a_loss_that_is_not_finite_is_json_and_comes_back_as_nan(tmp_path):
    with open_log(tmp_path) as log:
        start(log)
        for step, loss in ((1, math.nan), (2, math.inf), (3, 0.5)):
            log.write(event="step", step=step, texts=step, seconds=1.0, loss=loss)

    def refuse(name):
        raise AssertionError(name)

    for line in (tmp_path / "log.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    np.testing.assert_array_equal(RunLog.read(tmp_path).curves["loss"].values, [math.nan, math.nan, 0.5])


def test_means_and_lasts_are_of_what_was_seen_since_the_mark_before():
    texts = np.array([0, 10, 10, 20, 35], np.int64)
    curve = Curve(np.arange(5), texts, np.array([1.0, 2.0, 4.0, math.nan, 8.0]))
    assert curve.means([0, 10, 20, 30, 40]) == [1.0, 3.0, None, None, 8.0]
    assert curve.lasts([0, 10, 20, 30, 40]) == [1.0, 4.0, None, None, 8.0]
    assert curve.means([40]) == [15 / 4]


def test_runs_are_found_in_folders_and_come_once(run, tmp_path):
    with open_log(tmp_path / "other.run") as log:
        start(log)
    assert [each.folder for each in read_runs([tmp_path])] == [run, tmp_path / "other.run"]
    assert [each.folder for each in read_runs([run, tmp_path])] == [run, tmp_path / "other.run"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: holds no run: no log.jsonl here"):
        read_runs([run, tmp_path / "empty"])
    with pytest.raises(InputError, match=r"gone: there is no such folder"):
        read_runs([tmp_path / "gone"])
    with pytest.raises(InputError, match=r"empty: holds no log.jsonl"):
        RunLog.read(tmp_path / "empty")


def test_what_the_disk_refuses_is_a_storage_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write"):
        open_log(tmp_path / "file" / "run")
    log = open_log(tmp_path / "run")
    (tmp_path / "run" / "log.jsonl").unlink()
    (tmp_path / "run" / "log.jsonl").mkdir()
    with pytest.raises(StorageError, match=r"log.jsonl: cannot write"):
        start(log)


def test_tensorboard_gets_every_number_and_forgets_void_steps(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed (extra: train)")
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (extra: tensorboard)")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with open_log(tmp_path) as log:
        start(log)
        steps(log, 1, 6, 2.0)
    with open_log(tmp_path) as log:
        start(log, step=4)
        steps(log, 5, 5, 1.0)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 2), (2, 2), (3, 2), (4, 2), (5, 1)]
    assert {"loss", "rate", "gradient_norm", "cosine", "texts", "seconds", "world"} <= set(events.Tags()["scalars"])
    assert "step" not in events.Tags()["scalars"]


def test_without_tensorboard_there_is_the_log_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("leafkit.training.log.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with open_log(tmp_path) as log:
        start(log)
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_a_run_that_has_only_begun_has_no_curves_yet(tmp_path):
    (tmp_path / "leaf.run").mkdir()
    (tmp_path / "leaf.run" / "recipe.toml").write_text('student = "layers:1"\n')
    (run,) = read_runs([tmp_path])
    assert (run.student, run.steps, run.finished, run.curves) == ("layers:1", 0, False, {})
