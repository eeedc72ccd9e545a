"""Runs of real processes: two of a launcher, and ones that are killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed (extra: train)")

ENVIRONMENT = {
    **os.environ,
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "LEAFKIT_NUM_THREADS": "1",
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",  # else torchrun's restart waits for a store that went with a process
}
TWO = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
RECIPE = """
student = "layers:1"
preset = "fast"
epochs = 2
batch_size = 7
precision = "float32"
checkpoint_minutes = 1e-9
gates.every = 20
[[data]]
store = {store}
"""


@pytest.fixture
def recipe(store, tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(store=json.dumps(str(store))))
    return path


def _command(recipe, out, launcher=(sys.executable,)):
    return [*launcher, "-m", "leafkit", "distill", "--recipe", str(recipe), "--out", str(out), "--resume"]


def _run(command):
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)


def _losses(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if line["event"] == "step"}


def test_two_processes_see_the_losses_of_one_and_a_killed_one_is_recovered(recipe, tmp_path):
    one = _run(_command(recipe, tmp_path / "one"))
    assert one.returncode == 0, one.stderr
    with_restart = [*TWO, "--max-restarts", "1"]
    child = subprocess.Popen(
        _command(recipe, tmp_path / "two", with_restart), env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    )
    _wait_for(tmp_path / "two.run" / "checkpoints")
    second = next(pid for pid, rank in _ranks_of(child.pid).items() if rank == "1")
    os.kill(second, signal.SIGKILL)
    _, stderr = child.communicate(timeout=300)
    assert child.returncode == 0, stderr
    ours, theirs = _losses(tmp_path / "two"), _losses(tmp_path / "one")
    assert ours.keys() == theirs.keys()
    # Sums in another order: 84 steps at which Adam divides by roots of small numbers
    np.testing.assert_allclose(list(ours.values()), list(theirs.values()), rtol=1e-4)
    assert "lost the others" in stderr


def test_without_a_restart_a_killed_process_ends_the_run_with_one_error(recipe, tmp_path):
    child = subprocess.Popen(
        _command(recipe, tmp_path / "two", TWO), env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    )
    _wait_for(tmp_path / "two.run" / "checkpoints")
    first = next(pid for pid, rank in _ranks_of(child.pid).items() if rank == "0")
    os.kill(first, signal.SIGKILL)
    _, stderr = child.communicate(timeout=300)
    assert child.returncode != 0
    assert "fault of leafkit's own" not in stderr
    assert not (tmp_path / "two").exists()
    again = _run(_command(recipe, tmp_path / "two", TWO))
    assert again.returncode == 0, again.stderr


def test_sigterm_saves_and_ends_with_143_and_the_same_command_goes_on(recipe, tmp_path):
    child = subprocess.Popen(_command(recipe, tmp_path / "leaf"), env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    _wait_for(tmp_path / "leaf.run" / "checkpoints")
    child.send_signal(signal.SIGTERM)
    _, stderr = child.communicate(timeout=300)
    assert child.returncode == 143, stderr
    step = int(stderr.split("SIGTERM: saved at step ")[1].split(".")[0])
    assert (tmp_path / "leaf.run" / "checkpoints" / f"step-{step:08}").is_dir()
    again = _run(_command(recipe, tmp_path / "leaf"))
    assert again.returncode == 0, again.stderr
    starts = [line for line in (tmp_path / "leaf" / "log.jsonl").read_text().splitlines() if '"start"' in line]
    assert [json.loads(line)["step"] for line in starts] == [0, step]


def _wait_for(folder):
    deadline = time.monotonic() + 200
    while not (folder.is_dir() and any(folder.glob("step-*"))):
        assert time.monotonic() < deadline, "the run saved nothing"
        time.sleep(0.01)


def _ranks_of(launcher):
    found = {}
    for task in Path(f"/proc/{launcher}/task").iterdir():
        for pid in (task / "children").read_text().split():
            values = Path(f"/proc/{pid}/environ").read_text().split("\0")
            found |= {int(pid): value[5:] for value in values if value.startswith("RANK=")}
    return found
