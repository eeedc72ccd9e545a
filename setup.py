"""Builds leafkit._C where there is a C++ compiler; without one the package installs and NumPy answers."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pybind11.setup_helpers import Pybind11Extension
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

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


class Toolkit:
    """A CUDA toolkit: of PATH, of CUDA_HOME, or of the packages of the extra cuda-build."""

    def __init__(self, nvcc: Path, root: Path) -> None:
        self.nvcc, self.root = nvcc, root

    @classmethod
    def find(cls) -> Toolkit | None:
        candidates = [Path(path) for path in (shutil.which("nvcc"),) if path]
        candidates += [Path(home) / "bin/nvcc" for home in (os.environ.get("CUDA_HOME"),) if home]
        candidates += sorted(Path(sysconfig.get_path("purelib")).glob("nvidia/cu1[3-9]/bin/nvcc"))
        nvcc = next((path for path in candidates if path.is_file()), None)
        if nvcc is None:
            return None
        told = subprocess.run([nvcc, "--dryrun", "-c", "-x", "cu", os.devnull], capture_output=True, text=True).stderr
        top = next((line.partition("TOP=")[2] for line in told.splitlines() if "TOP=" in line), str(nvcc.parents[1]))
        return cls(nvcc, Path(top.strip()).resolve())

    @property
    def libraries(self) -> Path:
        return next(path.parent for path in sorted(self.root.glob("**/libcudart_static.a")))

    def compile(self, source: str, target: Path) -> str:
        """Compile kernels for every architecture; give what ptxas says of them."""
        archs = cuda_archs()
        command = [str(self.nvcc), "-std=c++20", "-O3", "-Icsrc", "-Werror", "all-warnings", "-Xptxas", "-v"]
        command += ["-Xcompiler", "-fPIC,-fvisibility=hidden,-Wall,-Wno-unknown-pragmas"]
        command += [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in archs]
        command += [f"-gencode=arch=compute_{archs[-1]},code=compute_{archs[-1]}"]
        done = subprocess.run([*command, "-c", source, "-o", str(target)], capture_output=True, text=True)
        if done.returncode:
            raise CompileError(f"nvcc ({self.nvcc}) could not compile {source}:\n{done.stderr}")
        return str(done.stderr)


def cuda_archs() -> list[str]:
    """Give the compute capabilities to compile for, the last also as PTX for newer ones."""
    archs = os.environ.get("LEAFKIT_CUDA_ARCHS", "80;90;100").replace(",", ";").split(";")
    if not all(arch.strip().isdigit() and int(arch) >= 80 for arch in archs):
        raise SystemExit(f"LEAFKIT_CUDA_ARCHS={';'.join(archs)}: expected compute capabilities from 80, as 80;90;100")
    return sorted((arch.strip() for arch in archs), key=int)


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
        if ext.name == CUDA_MODULE:
            self._build_cuda(ext)
        else:
            self._build_levels(ext)

    def _build_cuda(self, ext: Extension) -> None:
        """Kernels by nvcc, the module by the C++ compiler, the runtime linked in; libcuda is found on first use."""
        wish = os.environ.get("LEAFKIT_CUDA", "auto")
        if wish not in ("0", "1", "auto"):
            raise SystemExit(f"LEAFKIT_CUDA={wish}: expected 0, 1 or auto")
        if wish == "0":
            return
        toolkit = Toolkit.find()
        if toolkit is None:
            if wish == "1":
                raise SystemExit(
                    "LEAFKIT_CUDA=1: no nvcc in PATH, in CUDA_HOME/bin, or of pip install 'leafkit[cuda-build]'"
                )
            return
        try:
            self._link_cuda(ext, toolkit)
        except (CompileError, LinkError, OSError, StopIteration) as exc:
            if wish == "1":
                raise SystemExit(f"LEAFKIT_CUDA=1: {exc}") from exc
            sys.stderr.write(f"leafkit: the CUDA module is not built, the CPU's is: {exc}\n")

    def _link_cuda(self, ext: Extension, toolkit: Toolkit) -> None:
        temporary = Path(self.build_temp) / "cuda"
        temporary.mkdir(parents=True, exist_ok=True)
        kernels = [source for source in ext.sources if source.endswith(".cu")]
        made = [temporary / (Path(source).stem + ".o") for source in kernels]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            told = list(pool.map(toolkit.compile, kernels, made))
        (temporary / "ptxas.txt").write_text("".join(told))
        module = self.compiler.compile(
            [source for source in ext.sources if source.endswith(".cpp")],
            output_dir=self.build_temp,
            macros=[("LEAFKIT_CUDA_ARCHITECTURES", f'"{";".join(cuda_archs())}"')],
            include_dirs=[*ext.include_dirs, str(toolkit.root / "include"), *self.compiler.include_dirs],
            extra_postargs=["-std=c++20", "-O2", "-fvisibility=hidden"],
        )
        Path(self.get_ext_fullpath(ext.name)).parent.mkdir(parents=True, exist_ok=True)
        self.compiler.link_shared_object(
            [*module, *map(str, made)],
            self.get_ext_fullpath(ext.name),
            libraries=["cudart_static", "rt", "dl", "pthread"],
            library_dirs=[str(toolkit.libraries)],
            target_lang="c++",
        )

    def _build_levels(self, ext: Extension) -> None:
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


CUDA_MODULE = "leafkit._C_cuda"
setup(
    ext_modules=[
        Pybind11Extension(
            CUDA_MODULE,
            [*map(str, sorted(Path("csrc/cuda").glob("*.cu"))), "csrc/cuda/module.cpp"],
            include_dirs=["csrc"],
            optional=True,  # BuildNative says why it is not there
        ),
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
        ),
    ],
    cmdclass={"build_ext": BuildNative},
)
