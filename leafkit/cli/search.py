"""``leafkit search``: one query, its hits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SHOWN = 200  # characters of a hit's text in a terminal


def search(
    query: Annotated[str, typer.Argument(help="What to look for, in plain words.")],
    index: Annotated[Path, typer.Option(help="Folder made by `leafkit index create`.")],
    model: Annotated[str, typer.Option(help="Leaf or teacher whose space the index is in.")],
    k: Annotated[int, typer.Option("-k", min=1, help="Hits to show.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array on stdout, for machines.")] = False,
) -> None:
    """Search an index with a leaf.

    Example: leafkit search --index notes.index --model leaf -k 3 "sort a list in place"
    """
    from leafkit.cli.console import tell, tell_json
    from leafkit.index import Retriever  # torch loads here: --help and usage errors stay instant

    hits = Retriever.open(index=index, model=model).search(query, k=k)
    if as_json:
        tell_json([{"rank": hit.rank, "score": hit.score, "id": hit.id, "text": hit.text} for hit in hits])
        return
    for hit in hits:
        text = " ".join(hit.text.split())
        tell(f"{hit.rank:3}  {hit.score:.4f}  {hit.id}\n     {text[:SHOWN]}{'…' if len(text) > SHOWN else ''}")
