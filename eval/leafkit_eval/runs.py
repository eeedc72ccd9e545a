"""RunFolder: a report's rankings on disk, as trec_eval reads them; every figure can be made from them again."""

from __future__ import annotations

import gzip
from pathlib import Path

from leafkit.io.atomic import write_file
from leafkit_eval.metrics import METRICS, Measures, Run, rank

LIST = "written.txt"


class RunFolder:
    """Writes rankings, and in the end removes those of an earlier report, which would pass for its own.

    Which those are stands in ``written.txt`` beside them: other files in the folder are left alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: set[str] = set()

    def save(self, stem: str, run: Run, measures: Measures) -> None:
        """Write a run, STEM.trec, and each query's metrics, STEM.tsv."""
        self._write(f"{stem}.trec", _trec(run).encode())
        rows = ["\t".join(("query-id", *METRICS)) + "\n"]
        for place, query in enumerate(measures.query_ids):
            rows.append("\t".join((query, *(f"{measures.per_query[name][place]:.6f}" for name in METRICS))) + "\n")
        self._write(f"{stem}.tsv", "".join(rows).encode())

    def save_packed(self, stem: str, run: Run) -> None:
        """Write a run alone, STEM.trec.gz: one of many."""
        self._write(f"{stem}.trec.gz", gzip.compress(_trec(run).encode(), mtime=0))

    def forget_others(self) -> None:
        """Remove rankings that were not written by this report: of other collections, modes or settings."""
        listed = self._folder / LIST
        before = listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else []
        write_file(listed, "".join(f"{name}\n" for name in sorted({*before, *self._written})).encode())
        for name in before:
            if name not in self._written and Path(name).name == name:
                (self._folder / name).unlink(missing_ok=True)
        write_file(listed, "".join(f"{name}\n" for name in sorted(self._written)).encode())

    def _write(self, name: str, content: bytes) -> None:
        write_file(self._folder / name, content)
        self._written.add(name)


def _trec(run: Run) -> str:
    lines = []
    for query in run:
        for place, document in enumerate(rank(run[query], query), start=1):
            score = f"{run[query][document]:.9g}"  # 9 digits: a float32
            lines.append(f"{query}\tQ0\t{document}\t{place}\t{score}\tleafkit\n")
    return "".join(lines)
