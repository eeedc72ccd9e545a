"""The benchmark's own code, at small sizes on the emulation: its rows, not its times."""

import sys
import time

import pytest

pytest.importorskip("torch", reason="torch is not installed (extra: train)")
pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed (extra: dev)")

from tests.cuda.build import ROOT  # after the skips


def test_every_row_has_both_values_and_both_errors(emulated, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import bench_cuda

    def seconds(calls):
        found = {}
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            found[name] = time.perf_counter() - start
        return found

    monkeypatch.setattr(bench_cuda, "medians", seconds)
    monkeypatch.setattr(bench_cuda, "faiss_flat", lambda held: None)
    rows = bench_cuda.losses(40, 1e12, 1e15) + bench_cuda.searches(3, 300, 1e12, 1e15)
    assert len(rows) == 4 + 5
    for row in rows:
        assert row["value"] > 0
        assert row["peer_value"] > 0
        assert row["limit_share"] > 0
        if "search" in row["case"]:
            assert row["quality"] > (0.05 if "binary" in row["case"] else 0.9)
        else:
            assert row["quality"] < 2e-2
            assert row["peer_quality"] < 0.2  # bfloat16, and a difference of near numbers
    for name in ("bench_cuda", "form"):
        sys.modules.pop(name)
