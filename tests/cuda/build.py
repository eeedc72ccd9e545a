"""Builds ``_C_emu``: the kernels' own sources, compiled with g++ against the emulation of the CUDA execution model."""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAME = "_C_emu" + sysconfig.get_config_var("EXT_SUFFIX")
FLAGS = ["-std=c++20", "-O1", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unknown-pragmas"]
BUILT = ROOT / "build" / "emulation"
COMPILER = shutil.which(os.environ.get("CXX", "c++"))


def build(csrc: Path = ROOT / "csrc", sanitize: bool = False) -> Path:
    """Give the module of these sources; what was compiled before is taken as it is."""
    import pybind11

    flags = [*FLAGS, "-DLEAFKIT_EMULATED", *(["-fsanitize=address", "-g"] if sanitize else [])]
    includes = [f"-I{csrc}", f"-I{pybind11.get_include()}", f"-I{sysconfig.get_path('include')}"]
    BUILT.mkdir(parents=True, exist_ok=True)

    def compile_one(source: Path) -> Path:
        read = b"".join(path.read_bytes() for path in sorted(read_by(source, csrc)))
        made = BUILT / f"{source.stem}-{hashlib.sha256(read + repr(flags).encode()).hexdigest()[:16]}.o"
        if not made.is_file():
            own = made.with_suffix(f".{os.getpid()}.o")
            run([COMPILER, "-x", "c++", *flags, *includes, "-c", source, "-o", own])
            own.replace(made)
        return made

    sources = [path for path in sorted((csrc / "cuda").iterdir()) if path.suffix in (".cu", ".cpp")]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, sources))
    folder = BUILT / hashlib.sha256(repr([made.name for made in objects]).encode()).hexdigest()[:16]
    if not (folder / NAME).is_file():
        folder.mkdir(exist_ok=True)
        own = folder / f"{os.getpid()}.so"
        run([COMPILER, "-shared", *flags, *objects, "-o", own])
        own.replace(folder / NAME)
    return folder / NAME


def read_by(source: Path, csrc: Path) -> set[Path]:
    """The source and every file of ours that it includes, through others too."""
    found, left = set(), [source]
    while left:
        path = left.pop()
        if path not in found:
            found.add(path)
            left += [csrc / name for name in re.findall(r'#include "(\S+)"', path.read_text())]
    return found


def load(path: Path):
    spec = importlib.util.spec_from_file_location("_C_emu", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
