"""``leafkit runs``: the curves of runs, side by side."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from leafkit.training import RunLog

SHOWN = {  # curves in a terminal, and their columns
    "loss": "loss",
    "cosine": "cosine",
    "ndcg_at_10_symmetric": "nDCG@10\nsymmetric",
    "ndcg_at_10_asymmetric": "nDCG@10\nasymmetric",
}
MARKS = 5  # rows between a run's start and its end, at most
CELLS, LEVELS = 10, "▁▂▃▄▅▆▇█"


def runs(
    folders: Annotated[
        list[Path],
        typer.Argument(help="A leaf, OUT.run of an unfinished run, or a folder of several.", metavar="DIR..."),
    ],
    svg: Annotated[Path | None, typer.Option(help="Draw the curves into this file too.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON array on stdout, every point of every curve.")
    ] = False,
) -> None:
    """Show how runs went, by texts seen: loss, cosine to the teacher on held-out texts, nDCG@10 where it was measured.

    The loss is the mean since the row above; the others are the last that was measured since then. Sparklines of all
    runs have one scale.

    Example: leafkit runs leaf other-leaf.run --svg curves.svg
    """
    from leafkit.cli.console import require_packages, say, tell_json
    from leafkit.training import read_runs

    if svg is not None:
        require_packages("jinja2", extra="judge")
    found = read_runs(folders)
    if svg is not None:
        from leafkit_eval.report import write_curves

        write_curves(found, svg)
        say(f"curves: {svg}")
    if as_json:
        tell_json([run.to_json() for run in found])
        return
    from rich.columns import Columns
    from rich.console import Console

    Console(file=sys.stdout, highlight=False).print(Columns(_tables(found), padding=(0, 4)))


def _tables(found: Sequence[RunLog]) -> list[Table]:
    longest = max(run.texts for run in found)
    names = [name for name in SHOWN if any(name in run.curves for run in found)]
    scales = {name: [v for run in found for v in _spark_values(run, name) if v is not None] for name in names}
    return [_table(run, _marks(longest, run.texts), scales) for run in found]


def _marks(longest: int, own: int) -> list[int]:
    """Round numbers of texts, the same for all runs, between a run's start and its own end."""
    sizes = (digit * 10**power for power in range(20) for digit in (1, 2, 5))
    step = next(size for size in sizes if size * MARKS >= longest)
    return sorted({0, *range(step, own, step), own})


def _table(run: RunLog, marks: Sequence[int], scales: dict[str, list[float]]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    state = f"{run.texts:,} texts, {run.steps:,} steps, {run.seconds:,.0f} s" + ("" if run.finished else ", unfinished")
    title = "\n".join(line for line in (str(run.folder), run.student, state) if line)
    table = Table(title=title, title_style="bold", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("texts", justify="right", footer="")
    if not run.curves:
        table.add_row("nothing logged yet")
        return table
    columns = []
    for name in scales:
        table.add_column(SHOWN[name], justify="right", min_width=CELLS)
        curve = run.curves.get(name)
        values = [None] * len(marks) if curve is None else curve.means(marks) if name == "loss" else curve.lasts(marks)
        columns.append(["–" if value is None else f"{value:.4f}" for value in values])
    for mark, *cells in zip(marks, *columns, strict=True):
        table.add_row(f"{mark:,}", *cells)
    table.add_section()
    table.add_row("", *(_sparkline(_spark_values(run, name), scale) for name, scale in scales.items()))
    return table


def _spark_values(run: RunLog, name: str) -> list[float | None]:
    """A curve in equal parts of the run, no more than it has points."""
    curve = run.curves.get(name)
    if curve is None:
        return []
    cells = min(CELLS, len(curve.values))
    return curve.means([run.texts * (cell + 1) / cells for cell in range(cells)])


def _sparkline(values: Sequence[float | None], scale: Sequence[float]) -> str:
    if not scale:
        return ""
    low, high = min(scale), max(scale)
    top = len(LEVELS) - 1
    return "".join(
        " " if value is None else LEVELS[round(top * (value - low) / (high - low)) if high > low else top // 2]
        for value in values
    )
