"""Builds leafkit._C where there is a C++ compiler; without one the package installs and NumPy answers."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from pybind11.setup_helpers import Pybind11Extension
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

X86 = platform.machine().lower() in ("x86_64", "amd64")
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]
NARROW = [*AVX512, "-mavx512bf16", "-mavx512vnni", "-mavx512vpopcntdq"]
LEVEL_FLAGS = {
    "level_avx2.cpp": AVX2,
    "level_avx2_vnni.cpp": [*AVX2, "-mavxvnni"],
    "level_avx512.cpp": AVX512,
    "level_avx512_narrow.cpp": NARROW,
    "level_amx.cpp": [*NARROW, "-mamx-tile", "-mamx-int8", "-mamx-bf16"],
}

SANITIZE = os.environ.get("LEAFKIT_SANITIZE")  # address, undefined or thread: .ci/sanitize runs the tests so
SANITIZED = ["-O1", "-g", "-w", f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all"] if SANITIZE else []


class BuildNative(build_ext):  # type: ignore[misc]  # setuptools has no types
    """Gives every level file its own flags, and says clearly what it does when there is no compiler."""

    def run(self) -> None:
        if os.environ.get("LEAFKIT_NATIVE") == "0":
            self._without("LEAFKIT_NATIVE=0")
        elif not self._compiler_works():
            self._without("no C++20 compiler was found, or Python's headers are missing")
        else:
            super().run()

    def build_extension(self, ext: Extension) -> None:
        plain = self.compiler._compile

        def compile_one(obj: str, src: str, extension: str, arguments: list[str], extra: list[str], *rest: Any) -> None:
            plain(obj, src, extension, arguments, [*extra, *LEVEL_FLAGS.get(Path(src).name, [])], *rest)

        self.compiler._compile = compile_one
        super().build_extension(ext)

    def _without(self, reason: str) -> None:
        sys.stderr.write(f"leafkit: {reason}: no native module is built, NumPy will answer (leafkit info says so)\n")
        self.extensions: list[Extension] = []

    def _compiler_works(self) -> bool:
        command = os.environ.get("CXX", "c++").split()
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "one.cpp"
            source.write_text("#include <Python.h>\n#include <span>\nint main() { return 0; }\n")
            include = sysconfig.get_path("include")
            try:
                done = subprocess.run(
                    [*command, "-std=c++20", "-I", include, "-c", str(source), "-o", str(source) + ".o"],
                    capture_output=True,
                )
            except OSError:
                return False
            return done.returncode == 0


def sources() -> list[str]:
    """Give the sources of this machine: level files of other architectures are left out."""
    found = [path.as_posix() for path in sorted(Path("csrc").rglob("*.cpp")) if "cuda" not in path.parts]
    return [path for path in found if X86 or Path(path).name not in LEVEL_FLAGS]


setup(
    ext_modules=[
        Pybind11Extension(
            "leafkit._C",
            sources(),
            include_dirs=["csrc"],
            cxx_std=20,
            define_macros=[("LEAFKIT_X86", "1")] if X86 else [],
            extra_compile_args=[
                "-O3",
                "-ffp-contract=off",
                "-fvisibility=hidden",
                "-pthread",
                "-Wall",
                "-Wextra",
                *SANITIZED,
            ],
            extra_link_args=["-pthread", *SANITIZED],
        )
    ],
    cmdclass={"build_ext": BuildNative},
)
