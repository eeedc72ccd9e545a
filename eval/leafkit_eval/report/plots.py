"""Plots as places: where each mark, interval and tick of a plot goes. The templates draw them as SVG.

Places along the axis of a dot plot are per cent of the width and heights are px, so that it fits a phone and its
letters keep their size. Curves, which SVG joins in px alone, have a fixed size in a file of their own. Colours follow
the reader's light or dark scheme.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from leafkit_eval.report.words import MODE_WORDS, figure, percent

PADDING = 3.0  # per cent of the width left free on each side, for markers at the ends of the axis
NAME_PX, LINE_PX, GAP_PX = 22, 20, 6
CURVE_PX = (640, 180)  # width and height of a curve plot inside its axes
STEPS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
FINE_STEPS = tuple(digit * 10.0**power for power in range(-6, 15) for digit in (1, 2, 5))


@dataclass(frozen=True)
class Subject:
    """What a plot shows: a field of the report's rows, the field of its interval, and words."""

    title: str
    note: str
    value: str
    interval: str
    reference: float | None
    told: Callable[[float | None], str]
    tick: Callable[[float], str]


SHARE = Subject(
    title="Share of the teacher's nDCG@10, by data set",
    note="The line at 100 % is the teacher.",
    value="share_of_teacher",
    interval="share_interval",
    reference=1.0,
    told=percent,
    tick=lambda at: f"{100 * at:.0f} %",
)
SCORE = Subject(
    title="nDCG@10, by data set",
    note="Intervals here are those of each figure alone; two systems are compared by the shares above.",
    value="ndcg_at_10",
    interval="ndcg_at_10_interval",
    reference=None,
    told=figure,
    tick=lambda at: f"{at:.2f}".rstrip("0").rstrip("."),
)


@dataclass(frozen=True)
class Mark:
    """A value with its interval."""

    mode: str
    y: float
    x: float
    ends: tuple[float, float] | None
    told: str


@dataclass(frozen=True)
class Plot:
    """Marks under their data set's name, over one axis."""

    subject: Subject
    names: Sequence[tuple[float, str]]
    marks: Sequence[Mark]
    ticks: Sequence[tuple[float, str]]
    reference: float | None
    height: float

    @property
    def modes(self) -> list[str]:
        """Modes that occur, in order, for the legend."""
        return list(dict.fromkeys(mark.mode for mark in self.marks))


def plots(report: dict[str, Any]) -> list[Plot]:
    """Lay out the shares and the scores of a report."""
    shares = [row for row in report["results"] if row["mode"] != "teacher" and row["share_of_teacher"] is not None]
    return [dot_plot(rows, subject) for rows, subject in ((shares, SHARE), (report["results"], SCORE)) if rows]


def dot_plot(rows: Sequence[dict[str, Any]], subject: Subject) -> Plot:
    """Lay out one line a row, data sets one below the other."""
    reach = [row[subject.value] for row in rows] + [end for row in rows for end in row[subject.interval] or ()]
    low, high, step = axis(reach if subject.reference is None else [*reach, subject.reference])

    def place(value: float) -> float:
        return round(PADDING + (100 - 2 * PADDING) * (value - low) / (high - low), 3)

    names: list[tuple[float, str]] = []
    marks: list[Mark] = []
    y = 0.0
    for group in by_dataset(rows):
        y += NAME_PX
        names.append((y - GAP_PX, _name(group[0])))
        for row in group:
            ends = row[subject.interval]
            told = subject.told(row[subject.value]) + (
                "" if ends is None else f" [{', '.join(map(subject.told, ends))}]"
            )
            marks.append(
                Mark(
                    mode=row["mode"],
                    y=y + LINE_PX / 2,
                    x=place(row[subject.value]),
                    ends=None if ends is None else (place(ends[0]), place(ends[1])),
                    told=f"{row['dataset']}, {MODE_WORDS[row['mode']]}: {told}",
                )
            )
            y += LINE_PX
        y += GAP_PX
    values = [low + step * number for number in range(round((high - low) / step) + 1)]
    return Plot(
        subject=subject,
        names=names,
        marks=marks,
        ticks=[(place(value), subject.tick(value)) for value in values],
        reference=None if subject.reference is None else place(subject.reference),
        height=y,
    )


@dataclass(frozen=True)
class Line:
    """A curve of one name: px from the upper left corner of the axes, in order."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class CurvePlot:
    """Curves over one pair of axes, with ticks at px."""

    title: str
    lines: Sequence[Line]
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]


def curve_plot(
    title: str, curves: Sequence[tuple[str, Sequence[float], Sequence[float]]], *, reach: float
) -> CurvePlot:
    """Lay out curves, each a name, x and y values, over x from 0 to ``reach``; there is at least one point."""
    width, height = CURVE_PX
    x_low, x_high, x_step = axis([0.0, reach], FINE_STEPS)
    y_low, y_high, y_step = axis([y for _, _, ys in curves for y in ys], FINE_STEPS)

    def x_place(x: float) -> float:
        return round(width * (x - x_low) / (x_high - x_low), 1)

    def y_place(y: float) -> float:
        return round(height * (y_high - y) / (y_high - y_low), 1)

    def ticks(low: float, high: float, step: float, place: Callable[[float], float]) -> list[tuple[float, str]]:
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        values = [low + step * number for number in range(round((high - low) / step) + 1)]
        return [(place(value), f"{value:,.{digits}f}") for value in values]

    return CurvePlot(
        title=title,
        lines=[Line(name, [(x_place(x), y_place(y)) for x, y in zip(xs, ys, strict=True)]) for name, xs, ys in curves],
        x_ticks=ticks(x_low, x_high, x_step, x_place),
        y_ticks=ticks(y_low, y_high, y_step, y_place),
    )


def axis(values: Sequence[float], steps: Sequence[float] = STEPS) -> tuple[float, float, float]:
    """Choose round ends and a round step so that at most seven ticks hold all values."""
    low, high = min(values), max(values)
    step = next((step for step in steps if (high - low) / step <= 5), (high - low) / 5)
    first, last = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    return first, max(last, first + step), step


def by_dataset(rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Gather the rows of each collection, in order."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["dataset"], row["split"]), []).append(row)
    return list(groups.values())


def _name(row: dict[str, Any]) -> str:
    return str(row["dataset"]) if row["split"] == "test" else f"{row['dataset']} ({row['split']})"


@dataclass(frozen=True)
class Point:
    """A system in a plot of quality over cost: per cent from the left, px from the top."""

    mode: str
    x: float
    y: float
    told: str


@dataclass(frozen=True)
class CostPlot:
    """Mean nDCG@10 over the milliseconds of a query, which lie on a logarithmic axis.

    ``front`` joins the systems than which none is both quicker and better (the Pareto front): x, y, x, y of each line.
    """

    points: Sequence[Point]
    front: Sequence[tuple[float, float, float, float]]
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    height: float


def encoder_of(mode: str) -> str:
    """Who embeds a mode's queries: ``teacher``, ``student``, a baseline; ``bm25``, which embeds none, itself."""
    return {"symmetric": "student", "asymmetric": "student"}.get(mode, mode)


def cost_plot(report: dict[str, Any]) -> CostPlot:
    """Lay out what each system that embeds queries is worth and costs."""
    modes, cost = report["summary"]["modes"], report["cost"]
    points = [
        (mode, cost[encoder_of(mode)]["query_p50_ms"], row["ndcg_at_10"])
        for mode, row in modes.items()
        if encoder_of(mode) in cost
    ]
    height = float(CURVE_PX[1])
    exponents = [math.log10(max(ms, 1e-3)) for _, ms, _ in points]
    first, last = math.floor(min(exponents)), math.ceil(max(exponents) + 1e-9)
    low, high, step = axis([score for _, _, score in points])

    def x_place(exponent: float) -> float:
        return round(8 + 88 * (exponent - first) / max(last - first, 1), 3)

    def y_place(score: float) -> float:
        return round(height * (high - score) / (high - low), 1)

    placed = [
        Point(mode, x_place(exponent), y_place(score), f"{MODE_WORDS[mode]}: {figure(score)}, {ms:.3g} ms a query")
        for (mode, ms, score), exponent in zip(points, exponents, strict=True)
    ]
    best: list[Point] = []
    for point in sorted(placed, key=lambda point: (point.x, point.y)):
        if not best or point.y < best[-1].y:  # y grows downwards
            best.append(point)
    return CostPlot(
        points=placed,
        front=[(one.x, one.y, other.x, other.y) for one, other in pairwise(best)],
        x_ticks=[(x_place(power), f"{10.0**power:g} ms") for power in range(first, last + 1)],
        y_ticks=[
            (y_place(low + step * number), f"{low + step * number:.2f}")
            for number in range(round((high - low) / step) + 1)
        ],
        height=height,
    )
