"""``leafkit distill``: a leaf from stores of teacher vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_MINUTES = 10.0


def distill(
    store: Annotated[list[Path], typer.Option(help="Store made by `leafkit embed` or `leafkit import`; once a store.")],
    student: Annotated[
        str, typer.Option(help="layers:N (the first N; or layers:N:spaced), static, or a model's folder or hub name.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the leaf; appears when the run is done.")],
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Train for this long.")] = None,
    epochs: Annotated[float | None, typer.Option(min=0.001, help="Or for this many passes over the texts.")] = None,
    base: Annotated[
        str | None, typer.Option(help="Model to cut layers or tokens from; the teacher if not given.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="If OUT is finished already, say so and end well.")] = False,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Texts a step; 32 (256 for static).")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak rate; 2e-4 (3e-3 for static).")] = None,
    seed: Annotated[int, typer.Option(help="Of the order of texts.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for machines.")] = False,
) -> None:
    """Train a student into its teacher's space. Ten minutes, unless --minutes or --epochs say otherwise.

    A run that was cut off goes on when the same command is given again.

    Example: leafkit distill --store notes.store --student layers:3 --out leaf --minutes 10
    """
    from leafkit.cli.console import progress_bar, tell, tell_json
    from leafkit.errors import UsageError
    from leafkit.training import distil, preset

    if minutes is not None and epochs is not None:
        raise UsageError("give --minutes or --epochs, one of the two")
    if minutes is None and epochs is None:
        minutes = DEFAULT_MINUTES
    recipe = preset(
        student,
        base=base,
        minutes=minutes,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
    )
    finished = out.exists()
    with progress_bar() as on_progress:
        report = distil(store, recipe, out, resume=resume, on_progress=on_progress)
    if as_json:
        tell_json({**vars(report), "folder": str(report.folder), "finished_before": finished})
        return
    before = "finished before, left as it is; " if finished else ""
    tell(
        f"{report.folder}: {before}{report.texts_seen} texts seen ({report.texts} distinct) in"
        f" {report.seconds / 60:.1f} min;"
        f" cosine to the teacher {report.cosine_start:.3f} at the linear start, {report.cosine_end:.3f} now"
    )
