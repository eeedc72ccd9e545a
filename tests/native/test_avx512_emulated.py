"""The AVX-512 tile on any x86-64 CPU: its source compiled against SIMDe's portable intrinsics."""

import ctypes
import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests import reference

ROOT = Path(__file__).parents[2]
SIMDE = next((path for path in (Path("/usr/include"), Path("/usr/local/include")) if (path / "simde").is_dir()), None)

# Stands before the compiler's own immintrin.h: the same names, portable arithmetic.
INTRINSICS = """
#pragma once
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/fma.h>
#undef _mm512_maskz_loadu_ps  // SIMDe 0.7 lacks it: lanes outside the mask are 0, and their memory is not touched
static inline simde__m512 leafkit_maskz_loadu_ps(unsigned short mask, const float* from) {
  float lanes[16];
  for (int i = 0; i < 16; ++i) lanes[i] = (mask >> i) & 1 ? from[i] : 0.0f;
  return simde_mm512_loadu_ps(lanes);
}
#define _mm512_maskz_loadu_ps leafkit_maskz_loadu_ps
#ifndef __mmask16
#define __mmask16 unsigned short
#endif
"""
DRIVER = """
#include "search/levels.h"
extern "C" void score(const float* q, long queries, const float* d, long documents, long dim, float* out) {
  leafkit::kScoreAvx512({q, queries, dim, dim}, {d, documents, dim, dim}, out);
}
"""

pytestmark = [
    pytest.mark.skipif(SIMDE is None, reason="SIMDe's headers are not installed (Debian: libsimde-dev)"),
    pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler here"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the level is x86-64's"),
]


@pytest.fixture(scope="module")
def score(tmp_path_factory):
    folder = tmp_path_factory.mktemp("emulated")
    (folder / "immintrin.h").write_text(INTRINSICS)
    (folder / "driver.cpp").write_text(DRIVER)
    library = folder / "tile.so"
    command = ["c++", "-std=c++20", "-O1", "-ffp-contract=off", "-fPIC", "-shared", "-w", "-DLEAFKIT_X86=1"]
    sources = [ROOT / "csrc" / "search" / "level_avx512.cpp", folder / "driver.cpp"]
    subprocess.run([*command, "-I", folder, "-I", ROOT / "csrc", *sources, "-o", library], check=True)
    function = ctypes.CDLL(str(library)).score
    function.restype = None

    def call(queries, documents):
        out = np.full((len(queries), len(documents)), np.nan, np.float32)
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (queries, documents, out)]
        sizes = [ctypes.c_long(n) for n in (len(queries), len(documents), queries.shape[1])]
        function(pointers[0], sizes[0], pointers[1], sizes[1], sizes[2], pointers[2])
        return out

    return call


@pytest.mark.parametrize("dim", [1, 7, 15, 16, 17, 31, 32, 33, 48, 65, 384])
@pytest.mark.parametrize(("queries", "documents"), [(1, 1), (1, 9), (5, 4), (6, 4), (7, 5), (13, 11)])
def test_the_tile_gives_the_scores_of_the_float64_definition(score, queries, documents, dim):
    random = np.random.default_rng(dim * 100 + queries)
    q = random.normal(size=(queries, dim)).astype(np.float32)
    d = random.normal(size=(documents, dim)).astype(np.float32)
    exact = q.astype(np.float64) @ d.astype(np.float64).T
    assert (np.abs(score(q, d) - exact) <= reference.rounding_bound(q, d)).all()


def test_equal_documents_score_equally_wherever_they_lie(score):
    random = np.random.default_rng(0)
    q = np.repeat(random.normal(size=(1, 77)).astype(np.float32), 13, axis=0)
    d = np.repeat(random.normal(size=(1, 77)).astype(np.float32), 11, axis=0)
    assert len(np.unique(score(q, d))) == 1
