"""DistilReport: what a run gave, and ``run.json``, which keeps it beside the student."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from leafkit.errors import CorruptData
from leafkit.io.atomic import write_file

RECORD = "run.json"


@dataclass(frozen=True)
class DistilReport:
    """What a run gave.

    Attributes:
        folder: of the student.
        steps: taken.
        texts_seen: repeated ones counted.
        texts: of an epoch.
        held_out: texts never trained on.
        cosine_start: mean cosine to the teacher on held-out texts at the linear start.
        cosine_end: the same of the last gate; both of the student as it is trained, before it is evened out.
        best_step: the step whose weights the student has: those of the best gate.
        seconds: of training.
    """

    folder: Path
    steps: int
    texts_seen: int
    texts: int
    held_out: int
    cosine_start: float
    cosine_end: float
    best_step: int
    seconds: float


def write_record(folder: Path, report: DistilReport, texts_hash: str) -> None:
    """Keep a report in a folder, with the hash of the texts that were trained on."""
    figures = {name: value for name, value in vars(report).items() if name != "folder"}
    record = {"format": "leafkit.run", "texts_hash": texts_hash} | figures
    write_file(folder / RECORD, (json.dumps(record, indent=1) + "\n").encode())


def read_record(folder: Path) -> tuple[DistilReport, str]:
    """Read what ``write_record`` wrote: the report and the hash of the texts.

    Raises:
        CorruptData: it is not there, or something else.
    """
    path = folder / RECORD
    try:
        record = json.loads(path.read_bytes())
        figures = {name: value for name, value in record.items() if name not in ("format", "texts_hash")}
        return DistilReport(folder, **figures), record["texts_hash"]
    except (OSError, ValueError, TypeError, KeyError) as exc:
        raise CorruptData(path, expected="the record of a run", found=repr(exc)) from exc
