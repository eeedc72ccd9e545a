"""The report's page: report.json in words, tables and drawings. Template and style lie in ``page.html.j2``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from leafkit.errors import MissingExtra

MODE_WORDS = {
    "bm25": "BM25",
    "teacher": "Teacher",
    "symmetric": "Leaf, both sides",
    "asymmetric": "Leaf for queries",
}
MODE_NOTES = {
    "bm25": "words, no vectors",
    "teacher": "queries and documents by the teacher",
    "symmetric": "queries and documents by the leaf",
    "asymmetric": "queries by the leaf, documents by the teacher",
}
PADDING = 3.0  # per cent of the plot's width left free on each side, for markers at the ends of the axis
LINE_PX, NAME_PX = 20, 22  # heights in a plot


def render_page(report: dict[str, Any]) -> str:
    """Give the page as one HTML text without any outside reference.

    Args:
        report: what ``report.json`` holds.
    """
    try:
        import jinja2
    except ImportError as exc:
        raise MissingExtra("jinja2", "judge") from exc
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters.update(percent=percent, figure=figure, count=count)
    template = environment.from_string((files(__package__) / "page.html.j2").read_text(encoding="utf-8"))
    return template.render(
        report=report,
        headline=headline(report),
        groups=list(_by_dataset(report["results"])),
        modes=list(report["summary"]["modes"]),
        mode_words=MODE_WORDS,
        mode_notes=MODE_NOTES,
        plots=[plot for plot in (_share_plot(report), _score_plot(report)) if plot is not None],
    )


def headline(report: dict[str, Any]) -> str:
    """Say in one sentence what the leaf keeps."""
    summary = report["summary"]
    asymmetric, symmetric = (_kept(summary["modes"][mode]) for mode in ("asymmetric", "symmetric"))
    if asymmetric is None or symmetric is None:
        return "The teacher finds nothing in these collections, so no share of it can be given."
    many = summary["collections"] > 1
    return (
        f"The leaf keeps {asymmetric} of the teacher's nDCG@10 when it embeds the queries and the documents stay as the"
        f" teacher embedded them, and {symmetric} when it embeds both"
        + (f" (mean of {count(summary['collections'])} collections, " if many else " (")
        + f"{count(summary['queries'])} queries)."
    )


def percent(value: float | None) -> str:
    """Write a share as per cent, one digit after the point."""
    return "–" if value is None else f"{100 * value:.1f} %"


def figure(value: float | None) -> str:
    """Write a metric or cosine, three digits after the point."""
    return "–" if value is None else f"{value:.3f}"


def count(value: object) -> str:
    """Write a whole number with thousands apart; leave other things as they are."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _kept(mode: dict[str, Any]) -> str | None:
    if mode["mean_share_of_teacher"] is None:
        return None
    bounds = mode["mean_share_interval"]
    told = "" if bounds is None else f" [{100 * bounds[0]:.1f}, {100 * bounds[1]:.1f}]"
    return percent(mode["mean_share_of_teacher"]) + told


def _by_dataset(results: Sequence[dict[str, Any]]) -> Iterable[list[dict[str, Any]]]:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in results:
        groups.setdefault((row["dataset"], row["split"]), []).append(row)
    return groups.values()


@dataclass(frozen=True)
class Mark:
    """A value with its interval: places in per cent of the width, y in px."""

    mode: str
    y: float
    x: float
    low: float | None
    high: float | None
    told: str


@dataclass(frozen=True)
class Plot:
    """Marks of each data set under its name, over one axis."""

    title: str
    note: str
    names: list[tuple[float, str]]
    marks: list[Mark]
    ticks: list[tuple[float, str]]
    reference: float | None
    height: int
    modes: list[str]


def _share_plot(report: dict[str, Any]) -> Plot | None:
    rows = [row for row in report["results"] if row["mode"] != "teacher" and row["share_of_teacher"] is not None]
    return _plot(
        rows,
        value="share_of_teacher",
        bounds="share_interval",
        title="Share of the teacher's nDCG@10, by data set",
        note="The line at 100 % is the teacher.",
        told=percent,
        tick=lambda at: f"{100 * at:.0f} %",
        reference=1.0,
    )


def _score_plot(report: dict[str, Any]) -> Plot | None:
    return _plot(
        report["results"],
        value="ndcg_at_10",
        bounds="ndcg_at_10_interval",
        title="nDCG@10, by data set",
        note="Intervals here are those of each figure alone; two systems are compared by the shares above.",
        told=figure,
        tick=lambda at: f"{at:.1f}",
        reference=None,
    )


def _plot(
    rows: Sequence[dict[str, Any]],
    *,
    value: str,
    bounds: str,
    title: str,
    note: str,
    told: Any,
    tick: Any,
    reference: float | None,
) -> Plot | None:
    if not rows:
        return None
    reach = [row[value] for row in rows] + [bound for row in rows for bound in row[bounds] or ()]
    low, high, step = _axis(reach + ([] if reference is None else [reference]))

    def place(at: float) -> float:
        return round(PADDING + (100 - 2 * PADDING) * (at - low) / (high - low), 3)

    names, marks, y = [], [], 0
    for group in _by_dataset(rows):
        y += NAME_PX
        names.append((y - 6, group[0]["dataset"]))
        for row in group:
            interval = row[bounds]
            said = told(row[value]) + ("" if interval is None else f" [{told(interval[0])}, {told(interval[1])}]")
            marks.append(
                Mark(
                    mode=row["mode"],
                    y=y + LINE_PX / 2,
                    x=place(row[value]),
                    low=None if interval is None else place(interval[0]),
                    high=None if interval is None else place(interval[1]),
                    told=f"{row['dataset']}, {MODE_WORDS[row['mode']]}: {said}",
                )
            )
            y += LINE_PX
        y += 6
    ticks = [(place(low + step * i), tick(low + step * i)) for i in range(round((high - low) / step) + 1)]
    return Plot(
        title,
        note,
        names,
        marks,
        ticks,
        reference=None if reference is None else place(reference),
        height=y,
        modes=list(dict.fromkeys(row["mode"] for row in rows)),
    )


def _axis(values: Sequence[float]) -> tuple[float, float, float]:
    """Choose round ends and a round step that leave at most seven ticks."""
    low, high = min(values), max(values)
    step = next(s for s in (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, math.inf) if (high - low) / s <= 5)
    if math.isinf(step):
        step = 10.0 ** math.ceil(math.log10(high - low))
    first, last = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    return first, max(last, first + step), step
