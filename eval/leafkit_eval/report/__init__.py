"""Reports: ``report.json`` in a published schema, the same on one page that needs nothing else, and in markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from leafkit.io.atomic import write_file
from leafkit_eval.report.curves import write_curves
from leafkit_eval.report.markdown import markdown_table, model_card, write_card
from leafkit_eval.report.page import render_page

__all__ = ["ReportFiles", "markdown_table", "model_card", "schema", "write_card", "write_curves", "write_report"]


class ReportFiles(NamedTuple):
    """Where a report lies."""

    json: Path
    html: Path
    markdown: Path


def write_report(result: Mapping[str, Any], out: str | Path) -> ReportFiles:
    """Write ``report.json``, ``report.html`` and a table, ``report.md``, into a folder, each whole or not at all.

    Args:
        result: what ``judge_retrieval`` gave. ``extra_tables`` (``title, columns, rows``) and ``examples``
            (``query, systems: [{name, hits: [{id, text, score, relevant}]}]``) may have been filled in since.
        out: folder, made if need be.

    Raises:
        ValueError: a number of the result is not finite: JSON has no NaN, "no value" is None.
    """
    where = ReportFiles(*(Path(out) / f"report.{suffix}" for suffix in ("json", "html", "md")))
    data = json.dumps(result, ensure_ascii=False, indent=1, allow_nan=False)
    write_file(where.json, data.encode() + b"\n")
    write_file(where.html, render_page(json.loads(data)).encode())  # the page cannot know more than the file
    write_file(where.markdown, markdown_table(json.loads(data)).encode())
    return where


def schema() -> dict[str, Any]:
    """Give the JSON schema of ``report.json``."""
    text = (files(__name__) / "schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded
