"""The AVX-512 and AMX tiles on any x86-64 CPU: their sources compiled against portable intrinsics, whole searches."""

import ctypes
import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from leafkit.ops.backend import describe
from tests import reference

ROOT = Path(__file__).parents[2]
SIMDE = next((path for path in (Path("/usr/include"), Path("/usr/local/include")) if (path / "simde").is_dir()), None)

# Stands before the compiler's own immintrin.h: the same names, portable arithmetic. Behind it what SIMDe 0.7 lacks.
INTRINSICS = """
#pragma once
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>
#undef _mm512_maskz_loadu_ps
#undef _mm512_madd_epi16
#define _mm512_maskz_loadu_ps some_floats
#define _mm512_maskz_loadu_epi32 some_words
#define _mm256_maskz_loadu_ps some_floats_256
#define _mm512_madd_epi16 add_pairs
#define _mm512_cvtepi32_ps to_floats
#define _mm512_cvtph_ps from_halves
#define _mm512_cvtps_pd to_doubles
#define _mm512_reduce_add_ps sum_of
typedef unsigned char lanes8;
typedef unsigned short lanes16;
#define __mmask8 lanes8
#define __mmask16 lanes16
template <class To, class From> static inline To as(From from) {
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}
struct F16 { float v[16]; };
struct F8 { float v[8]; };
struct D8 { double v[8]; };
struct I16 { int v[16]; };
struct S32 { short v[32]; };
static inline simde__m512 some_floats(unsigned mask, const float* from) {  // what is not wanted is not touched
  F16 out{};
  for (int i = 0; i < 16; ++i) if (mask >> i & 1) out.v[i] = from[i];
  return as<simde__m512>(out);
}
static inline simde__m512i some_words(unsigned mask, const void* from) {
  return as<simde__m512i>(some_floats(mask, (const float*)from));
}
static inline simde__m256 some_floats_256(unsigned mask, const float* from) {
  F8 out{};
  for (int i = 0; i < 8; ++i) if (mask >> i & 1) out.v[i] = from[i];
  return as<simde__m256>(out);
}
static inline simde__m512i add_pairs(simde__m512i a, simde__m512i b) {
  const S32 x = as<S32>(a), y = as<S32>(b);
  I16 out;
  for (int i = 0; i < 16; ++i) out.v[i] = x.v[2 * i] * y.v[2 * i] + x.v[2 * i + 1] * y.v[2 * i + 1];
  return as<simde__m512i>(out);
}
static inline simde__m512 to_floats(simde__m512i a) {
  const I16 x = as<I16>(a);
  F16 out;
  for (int i = 0; i < 16; ++i) out.v[i] = (float)x.v[i];
  return as<simde__m512>(out);
}
static inline simde__m512 from_halves(simde__m256i a) {
  F16 out;
  *(simde__m256*)out.v = simde_mm256_cvtph_ps(simde_mm256_castsi256_si128(a));
  *(simde__m256*)(out.v + 8) = simde_mm256_cvtph_ps(simde_mm256_extracti128_si256(a, 1));
  return as<simde__m512>(out);
}
static inline simde__m512d to_doubles(simde__m256 a) {
  const F8 x = as<F8>(a);
  D8 out;
  for (int i = 0; i < 8; ++i) out.v[i] = x.v[i];
  return as<simde__m512d>(out);
}
static inline float sum_of(simde__m512 a) {
  const F16 x = as<F16>(a);
  float sum = 0;
  for (int i = 0; i < 16; ++i) sum += x.v[i];
  return sum;
}
"""
# The matrix unit: eight tiles of 16 rows of 64 bytes.
MATRIX = """
#pragma once
#include <cstring>
static thread_local unsigned char tiles[8][16][64];
static thread_local bool configured;
static inline float wide(unsigned short half) {
  const unsigned bits = (unsigned)half << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
static inline void _tile_loadconfig(const void* from) {
  const auto* bytes = (const unsigned char*)from;
  if (bytes[0] != 1) __builtin_trap();
  for (int t = 0; t < 8; ++t) if (bytes[48 + t] != 16 || bytes[16 + 2 * t] != 64) __builtin_trap();
  if (!configured) std::memset(tiles, 0x55, sizeof tiles);
  configured = true;
}
static inline void _tile_release() { configured = false; }
static inline void _tile_zero(int t) { std::memset(tiles[t], 0, sizeof tiles[t]); }
static inline void _tile_loadd(int t, const void* from, long stride) {
  if (!configured) __builtin_trap();
  for (int r = 0; r < 16; ++r) std::memcpy(tiles[t][r], (const char*)from + r * stride, 64);
}
static inline void _tile_stored(int t, void* to, long stride) {
  for (int r = 0; r < 16; ++r) std::memcpy((char*)to + r * stride, tiles[t][r], 64);
}
static inline void _tile_dpbusd(int c, int a, int b) {
  for (int m = 0; m < 16; ++m)
    for (int n = 0; n < 16; ++n)
      for (int k = 0; k < 64; ++k)
        ((int*)tiles[c][m])[n] += tiles[a][m][k] * (int)((signed char*)tiles[b][k / 4])[4 * n + k % 4];
}
static inline void _tile_dpbf16ps(int c, int a, int b) {
  for (int m = 0; m < 16; ++m)
    for (int n = 0; n < 16; ++n)
      for (int k = 0; k < 32; ++k)
        ((float*)tiles[c][m])[n] += wide(((unsigned short*)tiles[a][m])[k]) *
                                    wide(((unsigned short*)tiles[b][k / 2])[2 * n + k % 2]);
}
"""
DRIVER = """
#include "search/kernels.h"
#include "search/search.h"
namespace leafkit {
static int narrow;  // 0: AVX-512 alone, 1: with the narrow instructions, 2: with AMX, 3: AVX2 alone
Kernels kernels_of(Level) {
  if (narrow == 3) return kKernelsAvx2;
  Kernels kernels = kKernelsAvx512;
  if (narrow) {
    kernels.tile[static_cast<int>(Type::bfloat16)] = kBfloat16Avx512;
    kernels.tile[static_cast<int>(Type::int8)] = kInt8Avx512;
    kernels.tile[static_cast<int>(Type::binary)] = kBinaryAvx512;
    kernels.in_place = Type::bfloat16;
  }
  if (narrow == 2) {
    kernels.tile[static_cast<int>(Type::bfloat16)] = kBfloat16Amx;
    kernels.tile[static_cast<int>(Type::int8)] = kInt8Amx;
    for (const Type type : {Type::bfloat16, Type::int8})
      kernels.tile_queries[static_cast<int>(type)] = kMostTileQueries;
    kernels.enter = kEnterAmx;
    kernels.leave = kLeaveAmx;
  }
  return kernels;
}
}
extern "C" void search(int narrow, int type, const float* q, long queries, const float* d, long documents, long dim,
                       long k, float* scores, long* rows) {
  using namespace leafkit;
  leafkit::narrow = narrow;
  const Rows<const float> both{d, documents, dim, dim};
  Packed packed{};
  if (type >= 0) packed = pack(both, {}, static_cast<Type>(type), nullptr, kernels_of(Level::avx512), 1);
  const Answer answer = type == static_cast<int>(Type::binary) ? Answer::own : Answer::exact;
  const Request request{k, answer, 1, {}, 1, Level::avx512};
  const Documents all{both, type >= 0 ? &packed : nullptr, {}};
  search_topk({q, queries, dim, dim}, all, request, scores, rows, [] { return true; });
}
"""
SOURCES = [
    "search/level_avx2.cpp",
    "search/level_avx512.cpp",
    "search/level_avx512_narrow.cpp",
    "search/level_amx.cpp",
    "search/search.cpp",
    "search/exact.cpp",
    "search/pack.cpp",
    "base/pool.cpp",
]
IN_PLACE, BINARY = -1, 4

pytestmark = [
    pytest.mark.skipif("amx" in describe().levels, reason="this CPU has both levels: every other test covers them"),
    pytest.mark.skipif(SIMDE is None, reason="SIMDe's headers are not installed (Debian: libsimde-dev)"),
    pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler here"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the level is x86-64's"),
]


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    folder = tmp_path_factory.mktemp("emulated")
    (folder / "immintrin.h").write_text(INTRINSICS + MATRIX)
    (folder / "driver.cpp").write_text(DRIVER)
    library = folder / "search.so"
    command = ["c++", "-std=c++20", "-O1", "-ffp-contract=off", "-fPIC", "-shared", "-w", "-pthread", "-DLEAFKIT_X86=1"]
    sources = [*(ROOT / "csrc" / source for source in SOURCES), folder / "driver.cpp"]
    subprocess.run([*command, "-I", folder, "-I", ROOT / "csrc", *sources, "-o", library], check=True)
    function = ctypes.CDLL(str(library)).search
    function.restype = None

    def call(queries, documents, k, type, narrow):
        scores = np.full((len(queries), k), np.nan, np.float32)
        rows = np.full((len(queries), k), -2, np.int64)
        q, d, s, r = (array.ctypes.data_as(ctypes.c_void_p) for array in (queries, documents, scores, rows))
        sizes = [ctypes.c_long(n) for n in (len(queries), len(documents), queries.shape[1], k)]
        function(narrow, type, q, sizes[0], d, *sizes[1:], s, r)
        return scores, rows

    return call


@pytest.mark.parametrize("narrow", [0, 1, 2, 3])
@pytest.mark.parametrize("type", [IN_PLACE, 0, 1, 2, 3])
@pytest.mark.parametrize("dim", [1, 7, 16, 33, 65, 200])
def test_the_answer_is_that_of_the_float64_definition(search, dim, type, narrow):
    random = np.random.default_rng(dim)
    for queries, documents in [(1, 1), (6, 64), (8, 65), (13, 90)]:
        q, d = (random.normal(size=(n, dim)).astype(np.float32) for n in (queries, documents))
        d[::7] = d[0]
        k = min(documents, 9)
        scores, rows = search(q, d, k, type, narrow)
        expected, best = reference.search_topk(q, d, k)
        assert (rows == best).all()
        np.testing.assert_array_equal(scores, expected.astype(np.float32))


@pytest.mark.parametrize("narrow", [0, 1, 2, 3])
@pytest.mark.parametrize("dim", [1, 31, 32, 33, 100])
def test_bits_are_counted(search, dim, narrow):
    random = np.random.default_rng(dim)
    q, d = (random.normal(size=(n, dim)).astype(np.float32) for n in (7, 130))
    expected = np.where(q > 0, 1, -1) @ np.where(d > 0, 1, -1).T
    scores, rows = search(q, d, 20, BINARY, narrow)
    assert (rows == np.argsort(-expected, axis=1, kind="stable")[:, :20]).all()
    assert (scores == np.take_along_axis(expected, rows, 1)).all()
