"""Faults that a GPU forgives until it does not, planted one by one in the kernels: the emulation has to catch each."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed (extra: train)")
pytest.importorskip("pybind11", reason="pybind11 is not installed (extra: dev)")

from tests.cuda.build import COMPILER, ROOT, build  # after the skips

pytestmark = pytest.mark.slow
WRONG = "AssertionError"  # only the numbers tell
# what is planted: file, from, to, tests that run, what they say
FAULTS = {
    "no barrier behind the stores of a step": (
        "tile.cuh", "    __syncthreads();\n    if (at", "    if (at", "search_of_float32", WRONG,
    ),
    "no barrier before the next step's stores": (
        "tile.cuh", "    __syncthreads();  // the step before is multiplied\n", "",
        "losses_of_a_batch and 130", WRONG,
    ),
    "no barrier between the steps of a sort": (
        "select.cuh", "      By::wait();\n      for (int pair", "      for (int pair", "search_of_float32", WRONG,
    ),
    "lanes that do not wait for their warp": (
        "select.cuh", "{ __syncwarp(); }", "{}", "search_of_float32", WRONG,
    ),
    "half a warp that goes on": (
        "select.cuh", "*threshold = sorted[kept - 1];\n  }\n  By::wait();",
        "*threshold = sorted[kept - 1];\n  }\n  if (By::index() < 16) By::wait();", "search_of_float32", "do not come",
    ),
    "sums read before one lane has written them": (
        "alignment.cuh", "    if (lane_index() == 0) out[k] = sums;\n  }\n  __syncwarp();",
        "    if (lane_index() == 0) out[k] = sums;\n  }", "whatever_the_lengths", "do not come|AssertionError",
    ),
    "a transposed square read before it is whole": (
        "batch.cuh", "  __syncthreads();\n  for (int row = warp_index(); row < 32",
        "  for (int row = warp_index(); row < 32",
        "losses_of_a_batch and 130", WRONG,
    ),
    "a barrier that half the block reaches": (
        "search.cuh", "held = counts[0];\n      __syncthreads();",
        "held = counts[0];\n      if (threadIdx.x < 128) __syncthreads();",
        "search_of_float32", "wait at different barriers|is not reached by all|can go on",
    ),
    "two barriers for one": (
        "search.cuh", "    __syncthreads();\n    cut_above",
        "    if (threadIdx.x % 2 == 0)\n      __syncthreads();\n    else\n      __syncthreads();\n    cut_above",
        "search_of_float32", "wait at different barriers",
    ),
    "a mask without half of the warp": (
        "machine.cuh", "kWholeWarp = 0xffffffffu", "kWholeWarp = 0x0000ffffu", "test_alignment",
        "a shuffle reads lane|whose mask does not name it",
    ),
    "a sum over the warp in one half of it": (
        "batch.cuh", "  sum = warp_sum(sum) * scale;", "  if (lane_index() < 16) sum = warp_sum(sum) * scale;",
        "losses_of_a_batch and contrastive and 130", "that do not come",
    ),
    "a lane's fragment in another row": (
        "tile.cuh", "rows[r][2] = from[4], rows[r][3]", "rows[r][2] = from[8 * kPitch], rows[r][3]",
        "losses_of_a_batch and 130", WRONG,
    ),
    "one row too many": (
        "alignment.cuh", "  if (row >= rows) return;", "  if (row > rows) return;",
        "test_alignment and 11-72", "AddressSanitizer: heap-buffer-overflow",
    ),
    "shared memory without room for the counts": (
        "search.cu", "Tile::kRows * (sizeof(Key) + sizeof(int))", "Tile::kRows * sizeof(Key)", "search_of_float32",
        "AddressSanitizer: heap-buffer-overflow",
    ),
}  # fmt: skip


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault, tmp_path):
    file, old, new, chosen, said = FAULTS[fault]
    source = tmp_path / "csrc"
    shutil.copytree(ROOT / "csrc" / "cuda", source / "cuda")
    (source / "base").mkdir()
    shutil.copy(ROOT / "csrc" / "base" / "halves.h", source / "base")
    text = (source / "cuda" / file).read_text()
    assert old in text
    (source / "cuda" / file).write_text(text.replace(old, new))
    address = "AddressSanitizer" in said
    made = build(source, sanitize=address)
    environment = {**os.environ, "LEAFKIT_EMULATION": str(made)}
    if address:
        libraries = [
            subprocess.run([COMPILER, f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
            for name in ("libasan.so", "libstdc++.so.6")
        ]
        environment |= {"LD_PRELOAD": " ".join(libraries), "ASAN_OPTIONS": "detect_leaks=0"}
    tests = Path(__file__).with_name("test_kernels.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-qsx", "-p", "no:cacheprovider", str(tests), "-k", chosen],
        env=environment, cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    told = done.stdout + done.stderr
    assert done.returncode != 0, f"{fault}: nothing failed\n{told[-2000:]}"
    assert any(words in told for words in said.split("|")), told[-3000:]
