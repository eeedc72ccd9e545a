"""``leafkit embed``: texts into a store of teacher vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from leafkit.space import Kind


def embed(
    inputs: Annotated[
        list[Path],
        typer.Argument(help="JSON lines, gzip'd or not, plain text, csv, tsv, parquet, or folders (BEIR's too)."),
    ],
    teacher: Annotated[str, typer.Option(help="Hub name or folder of the model that makes the vectors.")],
    store: Annotated[Path, typer.Option(help="Folder to keep the vectors in; made if it is not there.")],
    kind: Annotated[Kind | None, typer.Option(help="Kind of texts that do not say; document if not given.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Read no more than this many texts.")] = None,
    text_field: Annotated[str, typer.Option(help="Name of the text's field or column.")] = "text",
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Cut texts there; the model's limit if not given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for machines.")] = False,
) -> None:
    """Embed texts with a teacher, each once per kind. Run it again to go on, or to add texts.

    Example: leafkit embed notes.jsonl --teacher all-MiniLM-L6-v2 --store notes.store
    """
    from leafkit.cli.console import progress_bar, tell, tell_json, warn_of_prompts
    from leafkit.io import read_texts
    from leafkit.store import EmbeddingStore, embed_texts
    from leafkit.teachers import open_teacher

    rows = list(read_texts(inputs, kind=kind, text_field=text_field, limit=limit))  # a bad line stops before any work
    encoder = open_teacher(teacher, max_tokens=max_tokens)
    warn_of_prompts(encoder)
    target = EmbeddingStore.open_or_create(store, encoder.space, model=teacher)
    with progress_bar() as on_progress:
        report = embed_texts(encoder, rows, target, total=len(rows), on_progress=on_progress)
    if as_json:
        tell_json({"store": str(store), "space": target.space.id, "rows": len(target), **vars(report)})
        return
    tell(
        f"{report.embedded} texts embedded in {report.seconds:.1f} s, {report.known} were there, {report.repeated} came"
        f" twice; {store} holds {len(target)}"
    )
    if report.truncated:
        tell(f"{report.truncated} texts were longer than {target.space.max_tokens} tokens and were cut there")
