"""What a level's object file may hold: nothing that the linker could hand to an older CPU, no sums in memory."""

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]
NARROW = [*AVX512, "-mavx512bf16", "-mavx512vnni", "-mavx512vpopcntdq"]
AMX = [*NARROW, "-mamx-tile", "-mamx-int8", "-mamx-bf16"]
LEVELS = {"level_avx2": AVX2, "level_avx512": AVX512}
FILES = [(family, *level) for family in ("search", "losses", "encoder") for level in LEVELS.items()]
FILES += [("search", "level_avx2_vnni", [*AVX2, "-mavxvnni"])]
FILES += [(family, "level_avx512_narrow", NARROW) for family in ("search", "losses", "encoder")]
FILES += [(family, "level_amx", AMX) for family in ("search", "losses", "encoder")]

VECTORS = [file for file in FILES if file[0] == "search" and file[2] != AMX]

pytestmark = [
    pytest.mark.skipif(shutil.which("c++") is None or shutil.which("nm") is None, reason="no C++ compiler here"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the levels beside scalar are x86-64's"),
]


def compiled(folder, family, level, flags, optimise):
    source, out = ROOT / "csrc" / family / f"{level}.cpp", folder / f"{level}.o"
    command = ["c++", "-std=c++20", optimise, "-ffp-contract=off", "-w", "-DLEAFKIT_X86=1", "-I", ROOT / "csrc"]
    subprocess.run([*command, *flags, "-c", source, "-o", out], check=True)
    return out


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(("family", "level", "flags"), FILES)
@pytest.mark.parametrize("optimise", ["-O3", "-O0"])
def test_a_level_file_holds_no_weak_code(tmp_path, family, level, flags, optimise):
    symbols = output("nm", "-C", compiled(tmp_path, family, level, flags, optimise))
    assert (
        "kKernels" in symbols
        or "kInt8" in symbols
        or "kLoss" in symbols
        or "kBatch" in symbols
        or "kEncoder" in symbols
    )
    assert [line for line in symbols.splitlines() if " W " in line] == []


def target(instruction, places, number):
    jump = re.match(r"j\w+\s+([0-9a-f]+)", instruction)
    return places.get(int(jump[1], 16), number) if jump else number


# Every tile of six queries keeps its sums in registers, but these, which need more of them than there are: AVX2 and
# the AVX-512 of CPUs without the narrow instructions.
MANY_VALUES = {("level_avx512", type) for type in ("Binary", "Int8", "Bfloat16")}
MANY_VALUES |= {("level_avx2", type) for type in ("Binary", "Int8", "Bfloat16")}


@pytest.mark.skipif(shutil.which("objdump") is None, reason="no objdump here")
@pytest.mark.parametrize(("family", "level", "flags"), VECTORS)
def test_no_sum_is_stored_inside_the_multiply_loop(tmp_path, family, level, flags):
    code = output("objdump", "-dC", "--no-show-raw-insn", compiled(tmp_path, family, level, flags, "-O3"))
    looked_at = 0
    for name, body in re.findall(r"^[0-9a-f]+ <(.*tile_of<.*)>:\n((?:.+\n)*)", code, re.MULTILINE):
        type = re.search(r"(\w+), \d>", name)[1]
        lines = [line.split("\t", 2)[:3] for line in body.splitlines() if line.count("\t") >= 1]
        places = {int(line[0].strip(" :"), 16): number for number, line in enumerate(lines)}
        for number, (_, instruction) in enumerate(line[:2] for line in lines):
            first = target(instruction, places, number)
            loop = [line[1] for line in lines[first:number]]
            if not any(re.search(r"vfmadd|vdpbf16|vpdpbusd|vpopcnt|vpmadd|vpshufb", line) for line in loop):
                continue
            if any(target(line, places, first + at) < first + at for at, line in enumerate(loop)):
                continue  # a loop around another
            looked_at += 1
            stores = [line for line in loop if re.match(r"vmov\w+\s+%[yz]mm\d+,.*\(", line)]
            assert stores == [] or (level, type) in MANY_VALUES, (name, stores)
    assert looked_at >= (6 if level == "level_avx2_vnni" else 3 * 6)
