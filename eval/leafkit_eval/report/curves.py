"""The curves of training runs as one SVG file: which ones, named how. ``plots.py`` places them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from leafkit.errors import InputError, MissingExtra
from leafkit.io.atomic import write_file
from leafkit_eval.report.plots import CURVE_PX, CurvePlot, curve_plot

if TYPE_CHECKING:
    from leafkit.training import RunLog

TITLES = {
    "loss": "Loss of the training texts",
    "cosine": "Cosine to the teacher, held-out texts",
    "ndcg_at_10_symmetric": "nDCG@10, leaf on both sides",
    "ndcg_at_10_asymmetric": "nDCG@10, leaf for queries",
}
LOSS_POINTS = 160  # of the loss of each run: means, 4 px apart; the losses of single steps are a thick band


def write_curves(runs: Sequence[RunLog], path: str | Path) -> None:
    """Draw the curves of runs over the texts they have seen, one plot a figure, whole or not at all.

    Args:
        runs: as ``leafkit.training.read_runs`` gives them.
        path: the SVG file; needs nothing else, and follows the reader's light or dark scheme.

    Raises:
        InputError: no run has logged anything yet.
        MissingExtra: jinja2 is not installed.
        StorageError: the disk refused.
    """
    write_file(Path(path), draw_curves(runs).encode())


def draw_curves(runs: Sequence[RunLog]) -> str:
    """Give the drawing of ``write_curves`` as a text.

    Raises:
        InputError, MissingExtra: as there.
    """
    try:
        import jinja2
    except ImportError as exc:
        raise MissingExtra("jinja2", "judge") from exc
    plots = [plot for name in TITLES if (plot := _plot(runs, name)) is not None]
    if not plots:
        raise InputError("nothing was logged yet, so there is no curve to draw", path=runs[0].folder)
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string((files(__package__) / "curves.svg.j2").read_text(encoding="utf-8"))
    names = [str(run.folder) for run in runs]
    return template.render(plots=plots, names=names, size=CURVE_PX)


def _plot(runs: Sequence[RunLog], name: str) -> CurvePlot | None:
    reach = max(1, *(run.texts for run in runs))
    curves = []
    for run in runs:
        curve = run.curves.get(name)
        if curve is None:
            continue
        xs: Sequence[float] = curve.texts.tolist()
        if name == "loss" and len(xs) > LOSS_POINTS:
            xs = [reach * (point + 1) / LOSS_POINTS for point in range(LOSS_POINTS)]
        pairs = [(x, y) for x, y in zip(xs, curve.means(xs), strict=True) if y is not None]
        if pairs:
            curves.append((str(run.folder), [x for x, _ in pairs], [y for _, y in pairs]))
    return curve_plot(TITLES[name], curves, reach=reach) if curves else None
