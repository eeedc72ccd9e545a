"""``leafkit demo``: the whole road on the documentation of this machine's Python packages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    packages: Annotated[str | None, typer.Option(help="Packages to read, by import name: a,b,c.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of everything the demo makes.")] = Path("demo"),
    teacher: Annotated[
        str | None, typer.Option(help="Teacher; all-MiniLM-L6-v2 from its package if not given.")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.05, help="Training time of the transformer student.")] = 1.5,
) -> None:
    """Distil a teacher into two small students on docstrings, and show what that cost and saved.

    Example: leafkit demo --packages numpy,scipy
    """
    from leafkit.cli.console import progress_bar, require_packages, say, tell

    require_packages("pytrec_eval", "jinja2", "bm25s", "Stemmer", extra="demo")
    from leafkit_eval.demo import DEFAULT_PACKAGES, run_demo

    names = [name.strip() for name in packages.split(",") if name.strip()] if packages else DEFAULT_PACKAGES
    with progress_bar() as on_progress:
        result = run_demo(names, out, teacher=teacher, minutes=minutes, say=say, on_progress=on_progress)
    tell(result.table)
    for example in result.examples:
        tell("\n" + example)
    tell(f"\nreport: {result.report}")
