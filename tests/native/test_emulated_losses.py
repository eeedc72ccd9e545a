"""The losses of a batch in the matrix unit, its tiles in plain C++: for CPUs that have bfloat16 and no AMX."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from leafkit.ops.backend import describe
from tests import reference
from tests.native.test_emulated import MATRIX

ROOT = Path(__file__).parents[2]
FLAGS = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512bf16", "-mfma", "-mf16c"]
NAMES = ("_tile_loadconfig", "_tile_release", "_tile_zero", "_tile_loadd", "_tile_stored", "_tile_dpbusd",
         "_tile_dpbf16ps")  # fmt: skip
DRIVER = """
#include "losses/batch.h"
extern "C" double loss(int which, const float* s, const float* t, long count, long dim, double temperature,
                       float* out) {
  using namespace leafkit;
  const Batch batch{{s, count, dim, dim}, {t, count, dim, dim}, 2, Level::amx, false, out};
  if (which == 0) return relational_loss(batch);
  return which == 1 ? listwise_kl_loss(batch, temperature) : contrastive_loss(batch, temperature);
}
"""
SOURCES = [f"losses/level_{level}.cpp" for level in ("scalar", "avx2", "avx512", "avx512_narrow", "amx")]
SOURCES += ["losses/batch.cpp", "losses/relational.cpp", "base/pool.cpp"]

pytestmark = [
    pytest.mark.skipif("amx" in describe().levels, reason="this CPU has AMX: every other test covers it"),
    pytest.mark.skipif("avx512bf16" not in describe().cpu_features, reason="this CPU has no products of bfloat16"),
    pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler here"),
]


@pytest.fixture(scope="module")
def loss(tmp_path_factory):
    folder = tmp_path_factory.mktemp("emulated")
    names = "".join(f"#undef {name}\n#define {name} emulated{name}\n" for name in NAMES)
    head = "#pragma once\n#include_next <immintrin.h>\n#include <cstring>\n"
    (folder / "immintrin.h").write_text(head + names + MATRIX)
    (folder / "driver.cpp").write_text(DRIVER)
    library = folder / "losses.so"
    command = ["c++", "-std=c++20", "-O1", "-ffp-contract=off", "-fPIC", "-shared", "-w", "-pthread", "-DLEAFKIT_X86=1"]
    sources = [*(ROOT / "csrc" / source for source in SOURCES), folder / "driver.cpp"]
    subprocess.run([*command, *FLAGS, "-I", folder, "-I", ROOT / "csrc", *sources, "-o", library], check=True)
    function = ctypes.CDLL(str(library)).loss
    function.restype = ctypes.c_double

    def call(which, student, teacher, temperature):
        gradient = np.full_like(student, np.nan)
        s, t, g = (array.ctypes.data_as(ctypes.c_void_p) for array in (student, teacher, gradient))
        sizes = [ctypes.c_long(n) for n in student.shape]
        return function(which, s, t, *sizes, ctypes.c_double(temperature), g), gradient

    return call


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize(("rows", "dim"), [(2, 3), (33, 7), (100, 64), (290, 40), (545, 33)])
def test_value_and_gradient_are_those_of_the_definition(loss, which, rows, dim):
    random = np.random.default_rng(rows)
    teacher = random.normal(size=(rows, dim))
    student = teacher + 0.5 * random.normal(size=(rows, dim))
    student, teacher = ((x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in (student, teacher))
    value, gradient = loss(which, student, teacher, 0.05)
    name = ("relational_loss", "listwise_kl_loss", "contrastive_loss")[which]
    expected, slopes = getattr(reference, name)(student, teacher, *(() if which == 0 else (0.05,)))
    assert value == pytest.approx(expected, rel=2e-2, abs=1e-4)
    assert np.linalg.norm(gradient - slopes) < 2e-2 * max(np.linalg.norm(slopes), 0.1)
