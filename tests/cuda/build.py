"""Builds ``_C_emu``: the kernels' own sources, compiled with g++ against the emulation of the CUDA execution model."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAME = "_C_emu" + sysconfig.get_config_var("EXT_SUFFIX")
FLAGS = ["-std=c++20", "-O1", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unknown-pragmas"]
COMPILER = shutil.which(os.environ.get("CXX", "c++"))


def build(csrc: Path = ROOT / "csrc", sanitize: bool = False, folder: Path | None = None) -> Path:
    """Give the module, built where these sources have not been built yet, or in ``folder``."""
    import pybind11

    sources = [path for path in sorted((csrc / "cuda").iterdir()) if path.suffix in (".cu", ".cpp")]
    read = [*sorted((csrc / "cuda").iterdir()), csrc / "base" / "halves.h", Path(__file__)]
    content = hashlib.sha256(b"".join(path.read_bytes() for path in read) + bytes([sanitize]))
    folder = folder or ROOT / "build" / "emulation" / content.hexdigest()[:16]
    if (folder / NAME).is_file():
        return folder / NAME
    folder.mkdir(parents=True, exist_ok=True)
    includes = [f"-I{csrc}", f"-I{pybind11.get_include()}", f"-I{sysconfig.get_path('include')}"]
    sanitizer = ["-fsanitize=address", "-g"] if sanitize else []

    def compile_one(source: Path) -> Path:
        made = folder / (source.stem + ".o")
        run([COMPILER, "-x", "c++", *FLAGS, *sanitizer, "-DLEAFKIT_EMULATED", *includes, "-c", source, "-o", made])
        return made

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, sources))
    made = folder / f"{os.getpid()}.so"
    run([COMPILER, "-shared", *sanitizer, *objects, "-o", made])
    made.replace(folder / NAME)
    return folder / NAME


def load(path: Path):
    spec = importlib.util.spec_from_file_location("_C_emu", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
