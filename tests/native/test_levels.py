"""What a level's object file may hold: nothing that the linker could hand to an older CPU."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLAGS = {"level_scalar": [], "level_avx2": ["-mavx2", "-mfma"], "level_avx512": ["-mavx512f", "-mfma"]}


@pytest.mark.skipif(shutil.which("c++") is None or shutil.which("nm") is None, reason="no C++ compiler here")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the levels beside scalar are x86-64's")
@pytest.mark.parametrize("family", ["search", "losses"])
@pytest.mark.parametrize("level", FLAGS)
@pytest.mark.parametrize("optimise", ["-O3", "-O0"])
def test_a_level_file_holds_no_weak_code(tmp_path, family, level, optimise):
    source, out = ROOT / "csrc" / family / f"{level}.cpp", tmp_path / "level.o"
    command = ["c++", "-std=c++20", optimise, "-ffp-contract=off", "-DLEAFKIT_X86=1", "-I", ROOT / "csrc"]
    subprocess.run([*command, *FLAGS[level], "-c", source, "-o", out], check=True)
    symbols = subprocess.run(["nm", "-C", out], check=True, capture_output=True, text=True).stdout
    assert "kScore" in symbols or "kLoss" in symbols
    assert [line for line in symbols.splitlines() if " W " in line] == []
