"""kill -9 at thirty random moments of a run: the same command again ends with the weights of an unbroken one."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="torch is not installed (extra: train)")

# One process that has torch loaded forks a child a run: thirty runs in the time that three would take to start.
KILLER = """
import os, random, shutil, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
import leafkit.training.loop
import sentence_transformers
from leafkit.training import Recipe, distil

recipe, folder = Recipe.read(sys.argv[1]), Path(sys.argv[2])

def start(out):
    child = os.fork()
    if child == 0:
        try:
            distil(recipe, out, resume=True)
        except BaseException as exc:
            print(out.name, repr(exc), flush=True)
            os._exit(1)
        os._exit(0)
    return child

def weights(out):
    return {path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*.safetensors"))}

began = time.monotonic()
assert os.waitpid(start(folder / "whole"), 0)[1] == 0
taken, whole, moments = time.monotonic() - began, weights(folder / "whole"), random.Random(int(sys.argv[3]))
assert whole
killed = different = 0
for number in range(int(sys.argv[4])):
    out = folder / f"broken-{number}"
    child = start(out)
    time.sleep(moments.uniform(0, taken))
    os.kill(child, signal.SIGKILL)
    killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    status = os.waitpid(start(out), 0)[1]
    if status or weights(out) != whole:
        print("different after", number, status, flush=True)
        different += 1
    shutil.rmtree(out, ignore_errors=True)
print(f"{killed} killed, {different} different", flush=True)
"""
RECIPE = """
preset = "fast"
student = "layers:1"
epochs = 12
ema = 0.9
checkpoint_minutes = 0.001
[[data]]
store = {store}
"""


@pytest.mark.slow
def test_a_run_killed_at_any_moment_ends_with_the_weights_of_an_unbroken_one(store, tmp_path):
    (tmp_path / "recipe.toml").write_text(RECIPE.format(store=json.dumps(str(store))))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLER, str(tmp_path / "recipe.toml"), str(tmp_path), "1", "30"],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "LEAFKIT_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1500,
    )
    last = done.stdout.splitlines()[-1] if done.stdout else done.stderr
    killed = int(last.split(" killed")[0]) if " killed" in last else 0
    assert last.endswith(" 0 different"), done.stdout + done.stderr
    assert killed >= 20  # the others had ended already
