"""What the machine allows: the stream bandwidth and the arithmetic peak of one core, measured when asked."""

import ctypes
import subprocess
import tempfile
from pathlib import Path

BYTES_A_VALUE = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1, "binary": 1 / 8}
OPERATIONS_A_VALUE = {"float32": 2, "bfloat16": 2, "float16": 2, "int8": 2, "binary": 2}
UNIT = {"float16": "float32"}  # float16 is widened


def limits() -> dict[str, float]:
    """Bytes a second under ``stream``, operations a second under each type that the CPU multiplies; {} without c++."""
    source = Path(__file__).with_name("limits.cpp")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "limits.so"
        command = ["c++", "-O3", "-march=native", "-std=c++20", "-w", "-fPIC", "-shared", source, "-o", library]
        try:
            subprocess.run(command, check=True)
        except (OSError, subprocess.CalledProcessError):
            return {}
        loaded = ctypes.CDLL(str(library))
        loaded.bytes_per_second.argtypes = [ctypes.c_size_t]
        loaded.bytes_per_second.restype = ctypes.c_double
        found = {"stream": loaded.bytes_per_second(1 << 29)}
        for type in BYTES_A_VALUE:
            if hasattr(loaded, f"{type}_peak"):
                function = getattr(loaded, f"{type}_peak")
                function.restype = ctypes.c_double
                found[type] = function()
    return found


def share(found: dict[str, float], type: str, documents: int, dim: int, queries_a_second: float, batch: int) -> float:
    """The share of the nearer limit that a rate of queries reaches: reading once a block of 1,024, or multiplying."""
    values = documents * dim
    reading = values * BYTES_A_VALUE[type] / found["stream"] / min(batch, 1024)
    multiplying = values * OPERATIONS_A_VALUE[type] / found.get(UNIT.get(type, type), float("inf"))
    return queries_a_second * max(reading, multiplying)
