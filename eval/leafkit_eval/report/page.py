"""The report's page: report.json in words and tables. Template and style lie in ``page.html.j2``."""

from __future__ import annotations

import base64
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from leafkit.errors import MissingExtra
from leafkit.training import RunLog
from leafkit_eval.report.curves import draw_curves
from leafkit_eval.report.plots import by_dataset, cost_plot, encoder_of, plots
from leafkit_eval.report.words import MODE_NOTES, MODE_WORDS, collections_words, count, figure, p_words, percent


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
        groups=by_dataset(report["results"]),
        compared=by_dataset(report["comparisons"]),
        lost=by_dataset(report["lost_queries"]),
        p_words=p_words,
        settings=by_setting(report["sweep"]),
        mode_words=MODE_WORDS,
        collections_words=collections_words(report["summary"]),
        mode_notes=MODE_NOTES,
        plots=plots(report),
        cost_plot=cost_plot(report) if report["cost"] else None,
        modes_of=lambda role: [mode for mode in report["summary"]["modes"] if encoder_of(mode) == role],
        curves=_curves(report),
    )


def by_setting(sweep: list[dict[str, Any]]) -> list[dict[str, dict[str, Any]]]:
    """Gather the rows of each width and precision by mode, in order."""
    settings: dict[tuple[int, str], dict[str, dict[str, Any]]] = {}
    for row in sweep:
        settings.setdefault((row["dim"], row["precision"]), {})[row["mode"]] = row
    return list(settings.values())


def _curves(report: dict[str, Any]) -> str | None:
    """The training's curves as the source of an image, for a style of their own; None where there are none."""
    training = report["training"]
    if training is None or not training["curves"]:
        return None
    drawing = draw_curves([replace(RunLog.from_json(training), folder=Path(report["student"]["name"]))])
    return "data:image/svg+xml;base64," + base64.b64encode(drawing.encode()).decode()


def headline(report: dict[str, Any]) -> str:
    """Say in one sentence what the leaf keeps."""
    summary = report["summary"]
    asymmetric, symmetric = (_kept(summary["modes"][mode]) for mode in ("asymmetric", "symmetric"))
    if asymmetric is None or symmetric is None:
        return "The teacher finds nothing in these collections, so no share of it can be given."
    basis = f"{count(summary['queries'])} queries"
    if summary["parts"] > 1:
        basis = f"mean of {collections_words(summary)}, {basis}"
    return (
        f"The leaf keeps {asymmetric} of the teacher's nDCG@10 when it embeds the queries and the documents stay as the"
        f" teacher embedded them, and {symmetric} when it embeds both ({basis})."
    )


def _kept(mode: dict[str, Any]) -> str | None:
    if mode["mean_share_of_teacher"] is None:
        return None
    ends = mode["mean_share_interval"]
    told = "" if ends is None else f" [{100 * ends[0]:.1f},\u00a0{100 * ends[1]:.1f}]"
    return percent(mode["mean_share_of_teacher"]) + told
