"""The one form of every benchmark: peers interleaved with us, medians, rows of one shape, the machine named."""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# Before anything is loaded: NumPy's BLAS chooses for itself, and where we are held to AVX2 so are the others.
for setting in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(setting, None)
HELD_TO_AVX2 = os.environ.get("LEAFKIT_CPU_LEVEL") == "avx2"
if HELD_TO_AVX2:
    os.environ |= {"OPENBLAS_CORETYPE": "Haswell", "FAISS_OPT_LEVEL": "AVX2", "ATEN_CPU_CAPABILITY": "avx2",
                   "ONEDNN_MAX_CPU_ISA": "AVX2"}  # fmt: skip

import threadpoolctl  # noqa: E402

SLOW = 5.0  # seconds of a call above which one timing must do


def arguments(description: str, more: Callable[[argparse.ArgumentParser], None] | None = None) -> argparse.Namespace:
    """Read the options; NumPy's BLAS and leafkit get as many threads as the others will."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="small sizes, a minute")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the rows there")
    if more:
        more(parser)
    options = parser.parse_args()
    threadpoolctl.threadpool_limits(options.threads)
    os.environ["LEAFKIT_NUM_THREADS"] = str(options.threads)
    return options


def median_seconds(calls: dict[Any, Callable[[], object]], rounds: int) -> dict[Any, float]:
    """Time the calls in turn, after one warm-up each; medians in seconds.

    Between two calls 20 ms pass: threads of the first that wait for more work by spinning would slow the second down.
    """
    for call in calls.values():
        call()
    times: dict[Any, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            if times[name] and times[name][0] > SLOW:
                continue
            time.sleep(0.02)
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in times.items()}


def row(case: str, peer: str, package: str, peer_value: float, value: float, unit: str, **quality: float) -> dict:
    """One comparison; ``ratio`` above 1 is ours to the good, for values of which more is better."""
    return {
        "case": case,
        "peer": peer,
        "peer_version": installed(package),
        "peer_value": round(peer_value, 4),
        "value": round(value, 4),
        "unit": unit,
        "ratio": round(value / peer_value, 3),
        "quality": quality.get("quality"),
        "peer_quality": quality.get("peer_quality"),
        "limit_share": quality.get("limit_share"),
    }


def finish(rows: list[dict], options: argparse.Namespace) -> None:
    """Print the table and where it was measured; write it as JSON if asked."""
    made = {
        "cpu": cpu(),
        "python": platform.python_version(),
        "command": " ".join(sys.argv),
        "threads": options.threads,
    }
    for entry in rows:
        values = f"{entry['peer_value']:>10.5g} {entry['value']:>10.5g} {entry['unit']:9} {entry['ratio']:>7.2f}x"
        print(f"{entry['case']:54} {entry['peer']:38} {values} {quality_of(entry)}")
    print(made)
    if options.json:
        options.json.write_text(json.dumps({**made, "rows": rows}, indent=1) + "\n")


def quality_of(entry: dict) -> str:
    told = [entry["peer_quality"], entry["quality"], entry["limit_share"]]
    return " ".join(f"{value:.3f}" for value in told if value is not None)


def cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = {line.split(":")[0].strip(): line.split(":", 1)[1].strip() for line in lines if ":" in line}
    return (
        f"{names.get('model name', platform.processor())}, family {names.get('cpu family')}, model {names.get('model')}"
    )


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
