"""What pip makes of the source distribution, with a compiler and without."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SAY = """
import sys
# An editable install of leafkit in this environment would lend its native module to a package without one.
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
import json, leafkit, numpy as np
from importlib.resources import files
from leafkit import ops
from leafkit.ops.backend import describe
rows = ops.search_topk(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32), 1).rows
typed = [(files(name) / "py.typed").is_file() for name in ("leafkit", "leafkit_eval")]
print(json.dumps({"from": leafkit.__file__, "backend": describe().backend, "reason": describe().reason,
                  "rows": rows.ravel().tolist(), "typed": typed, "stub": (files("leafkit") / "_C.pyi").is_file()}))
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    pytest.importorskip("build", reason="build is not installed (extra: dev)")
    out = tmp_path_factory.mktemp("sdist")
    tree = out / "tree"  # as a clone has it: no build leftovers, nothing that git ignores
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in files.splitlines():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tree / name)
    command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", out, tree]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("leafkit-*.tar.gz"))


def _installed(sdist, target, **environment):
    """Install into a folder and ask the package about itself."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-cache-dir"]
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "LEAFKIT_CUDA": "0", **environment}
    subprocess.run([*command, "--target", target, sdist], check=True, env=environment, capture_output=True)
    said = subprocess.run(
        [sys.executable, "-c", SAY],
        check=True,
        capture_output=True,
        text=True,
        cwd=target,
        env={**environment, "PYTHONPATH": str(target)},
    )
    return json.loads(said.stdout)


def test_the_sdist_holds_what_a_build_and_the_tests_need_and_no_binaries(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    needed = {name for name in tracked.splitlines() if name.startswith(("csrc/", "leafkit/", "eval/", "tests/"))}
    assert needed | {"LICENSE", "README.md", "Makefile", "constraints.txt", "setup.py"} <= names
    assert not [name for name in names if name.endswith((".so", ".pyc", ".o"))]


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler here")
def test_with_a_compiler_and_a_broken_cuda_toolkit_the_sdist_installs_the_native_module(sdist, tmp_path):
    said = _installed(sdist, tmp_path, LEAFKIT_CUDA="auto", PATH=f"{_broken_nvcc(tmp_path)}:{os.environ['PATH']}")
    assert [path.name.partition(".")[0] for path in (tmp_path / "leafkit").glob("*.so")] == ["_C"]
    assert said["from"].startswith(str(tmp_path))
    assert said["backend"] == "native"
    assert said["rows"] == [0, 1, 2]
    assert all(said["typed"])
    assert said["stub"]


def _broken_nvcc(folder):
    nvcc = folder / "toolkit" / "nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text("#!/bin/sh\necho 'nvcc: no licence to compile' >&2; exit 3\n")
    nvcc.chmod(0o755)
    return nvcc.parent


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler here")
@pytest.mark.parametrize(
    ("wish", "toolkit", "said"),
    [
        ("1", "broken", "LEAFKIT_CUDA=1: nvcc .* could not compile"),
        ("1", "none", "LEAFKIT_CUDA=1: no nvcc in PATH, in CUDA_HOME/bin, or of pip install 'leafkit\\[cuda-build\\]'"),
        ("yes", "none", "LEAFKIT_CUDA=yes: expected 0, 1 or auto"),
        ("1", "old", "LEAFKIT_CUDA_ARCHS=70;80: expected compute capabilities from 80"),
    ],
)
def test_cuda_that_is_asked_for_and_cannot_be_built_is_an_error(tmp_path, wish, toolkit, said):
    tree = tmp_path / "tree"
    for part in ("csrc", "leafkit", "eval"):
        shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for part in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / part, tree)
    places = [place for place in os.environ["PATH"].split(":") if not (Path(place) / "nvcc").exists()]
    if toolkit != "none":
        places.insert(0, str(_broken_nvcc(tmp_path)))
    environment = {**os.environ, "PATH": ":".join(places), "LEAFKIT_CUDA": wish}
    environment.pop("CUDA_HOME", None)
    if toolkit == "old":
        environment["LEAFKIT_CUDA_ARCHS"] = "70;80"
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--build-lib", tmp_path / "out", "--build-temp", tmp_path / "temp"],
        cwd=tree, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode != 0
    assert re.search(said, done.stderr), done.stderr[-2000:]
    assert not list((tmp_path / "out").rglob("*.so"))


def test_without_a_compiler_the_sdist_installs_and_numpy_answers(sdist, tmp_path):
    said = _installed(sdist, tmp_path, PATH=str(tmp_path / "nothing"))
    assert said["from"].startswith(str(tmp_path))
    assert said["backend"] == "numpy"
    assert "not built" in said["reason"]
    assert said["rows"] == [0, 1, 2]


def test_leafkit_native_0_builds_nothing_even_where_it_could(sdist, tmp_path):
    said = _installed(sdist, tmp_path, LEAFKIT_NATIVE="0")
    assert said["backend"] == "numpy"
    assert list(Path(tmp_path).rglob("*.so")) == []


def test_a_build_that_fails_with_a_compiler_at_hand_is_an_error(sdist, tmp_path):
    broken = tmp_path / "broken"
    with tarfile.open(sdist) as archive:
        archive.extractall(broken)  # our own archive; early 3.11 has no filters
    tree = next(broken.iterdir())
    (tree / "csrc" / "base" / "cpu.cpp").write_text("this is no C++\n")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target"]
    done = subprocess.run([*command, tmp_path / "out", tree], capture_output=True, text=True)
    assert done.returncode != 0
    assert "cpu.cpp" in done.stdout + done.stderr
