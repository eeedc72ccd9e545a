"""``leafkit eval card``: a leaf's model card from its report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def card(
    report: Annotated[Path, typer.Argument(help="Folder of a report of `leafkit eval retrieval`.")],
    out: Annotated[Path, typer.Option(help="File to write; README.md in the leaf's folder, as a rule.")],
    mteb: Annotated[Path | None, typer.Option(help="Folder of `leafkit eval mteb` of the same leaf.")] = None,
    name: Annotated[
        str | None, typer.Option(help="ORGANISATION/MODEL on the hub; the leaf's folder if not given.")
    ] = None,
) -> None:
    """Write a model card in the hub's form: metadata with the scores, how to use the leaf, what it keeps.

    Example: leafkit eval card report --mteb mteb-leaf --name YOU/YOUR-LEAF --out leaf/README.md
    """
    from leafkit.cli.console import require_packages, say

    require_packages("pytrec_eval", "jinja2", extra="judge")
    require_packages("huggingface_hub", extra="train")
    from leafkit_eval.report import write_card

    say(f"card: {write_card(report, out, mteb=mteb, name=name)}")
