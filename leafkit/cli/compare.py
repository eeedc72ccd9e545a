"""``leafkit eval compare``: two reports side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def compare(
    first: Annotated[Path, typer.Argument(help="Folder of a report.")],
    second: Annotated[Path, typer.Argument(help="Folder of another, on the same collections.")],
    metric: Annotated[str, typer.Option(help="ndcg_at_10, recall_at_100 or mrr_at_10.")] = "ndcg_at_10",
    as_json: Annotated[bool, typer.Option("--json", help="The rows on stdout, for machines.")] = False,
) -> None:
    """Compare two reports of `leafkit eval retrieval`, query by query: is one leaf better than the other?

    Differences are the second's less the first's, with their 95 % bootstrap intervals; p is a paired randomisation
    test's, corrected (Holm) for the rows over all collections, or for those of single ones.

    Example: leafkit eval compare report-a report-b
    """
    from leafkit.cli.console import require_packages, say, tell, tell_json

    require_packages("pytrec_eval", extra="judge")
    from leafkit_eval.two_reports import compare_reports, unshared

    rows = compare_reports(first, second, metric=metric)
    if as_json:
        tell_json(rows)
    else:
        tell(_table(rows, *_apart(first, second)))
    for folder, names in unshared(first, second).items():
        if names:
            say(f"only in {folder}: {', '.join(names)}")


def _apart(first: Path, second: Path) -> tuple[str, str]:
    """The folders' names, with as much of their paths as tells them apart."""
    one, other = first.resolve().parts, second.resolve().parts
    for count in range(1, max(len(one), len(other)) + 1):
        names = "/".join(one[-count:]), "/".join(other[-count:])
        if names[0] != names[1]:
            return names
    return "first", "second"


def _table(rows: list[dict[str, Any]], first: str, second: str) -> str:
    cells = [("collection", "mode", first, second, "difference", "95 % interval", "p (Holm)")]
    for row in rows:
        name = f"mean of {row['collections']}" if row["dataset"] is None else row["dataset"]
        low, high = row["difference_interval"]
        p = "< 0.001" if row["p_holm"] < 0.001 else f"{row['p_holm']:.3f}"
        cells.append(
            (name, row["mode"], f"{row['first']:.4f}", f"{row['second']:.4f}", f"{row['difference']:+.4f}",
             f"[{low:+.3f}, {high:+.3f}]", p)
        )  # fmt: skip
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return "\n".join("  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip() for row in cells)
