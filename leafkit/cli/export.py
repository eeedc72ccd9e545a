"""``leafkit export``: a leaf and its teacher as one model for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    student: Annotated[Path, typer.Option(help="Leaf made by `leafkit distill`.")],
    teacher: Annotated[str, typer.Option(help="Hub name or folder of its teacher.")],
    out: Annotated[Path, typer.Option(help="Folder to write; must not be there.")],
) -> None:
    """Write leaf and teacher as one sentence-transformers Router folder: encode_query, encode_document.

    Example: leafkit export --student leaf --teacher all-MiniLM-L6-v2 --out leaf-asym
    """
    from leafkit.cli.console import tell
    from leafkit.export import export_router

    tell(f"{export_router(student, teacher, out)}: queries by the leaf, documents by the teacher")
