"""``leafkit import``: ready vectors into a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from leafkit.space import Kind


def import_(
    texts: Annotated[list[Path], typer.Option(help="File of texts, as `leafkit embed` reads them; once a file.")],
    vectors: Annotated[list[Path], typer.Option(help=".npy or parquet of (rows, dim); row i belongs to text i.")],
    teacher: Annotated[str, typer.Option(help="Hub name or folder of the model that made the vectors.")],
    store: Annotated[Path, typer.Option(help="Folder of the store; made if it is not there.")],
    kind: Annotated[Kind | None, typer.Option(help="Kind of texts that do not say.")] = None,
    text_field: Annotated[str, typer.Option(help="Name of the text's field or column.")] = "text",
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Where texts were cut; the model's limit if not given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for machines.")] = False,
) -> None:
    """Add vectors that the teacher made elsewhere, beside their texts, file by file in one order.

    Example: leafkit import --texts a.jsonl.gz --vectors a.npy --teacher all-mpnet-base-v2 --store ready.store
    """
    from leafkit.cli.console import progress_bar, tell, tell_json
    from leafkit.store import import_vectors
    from leafkit.teachers import open_teacher

    space = open_teacher(teacher, max_tokens=max_tokens).space
    with progress_bar() as on_progress:
        report = import_vectors(
            texts, vectors, store, space, kind=kind, text_field=text_field, model=teacher, on_progress=on_progress
        )
    if as_json:
        tell_json({"store": str(store), "space": space.id, **vars(report)})
        return
    tell(f"{report.embedded} rows imported, {report.known} were there, {report.repeated} came twice: {store}")
