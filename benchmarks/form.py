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

import threadpoolctl


def arguments(description: str) -> argparse.Namespace:
    """Read the options; NumPy's BLAS and leafkit get as many threads as the others will."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="small sizes, a minute")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the rows there")
    options = parser.parse_args()
    threadpoolctl.threadpool_limits(options.threads)
    os.environ["LEAFKIT_NUM_THREADS"] = str(options.threads)
    return options


def median_seconds(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Time the calls in turn, after one warm-up each; medians in seconds."""
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
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
        values = f"{entry['peer_value']:>12} {entry['value']:>12} {entry['unit']:10} {entry['ratio']:>7}x"
        print(f"{entry['case']:34} {entry['peer']:26} {values}")
    print(made)
    if options.json:
        options.json.write_text(json.dumps({**made, "rows": rows}, indent=1) + "\n")


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
