"""``leafkit index``: indexes for search."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from leafkit.index import Index
    from leafkit.io import TextRow
    from leafkit.rotation import Rotation

app = typer.Typer(help="Make indexes for search.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Make indexes for search."""


@app.command("create")
def create(
    out: Annotated[Path, typer.Option(help="Folder of the index.")],
    store: Annotated[Path | None, typer.Option(help="Store whose documents to index.")] = None,
    corpus: Annotated[
        Path | None, typer.Option(help="Or: a BEIR folder or file of documents to embed and index.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="With --corpus: the teacher or leaf that embeds it.")] = None,
    rotation: Annotated[
        Path | None,
        typer.Option(help="Leaf trained with rotate = pca: turn the teacher's vectors as its training did."),
    ] = None,
    text_field: Annotated[str, typer.Option(help="With --corpus: name of the text's field or column.")] = "text",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for machines.")] = False,
) -> None:
    """Build a flat index: from a store's documents, or from a corpus and a model.

    Example: leafkit index create --store notes.store --out notes.index
    """
    from leafkit.cli.console import tell, tell_json
    from leafkit.errors import UsageError
    from leafkit.index import Index
    from leafkit.store import EmbeddingStore
    from leafkit.students import student_rotation

    turned = None if rotation is None else student_rotation(rotation)
    if store is not None and corpus is None and model is None:
        index = Index.from_store(EmbeddingStore.open(store), out, rotation=turned)
    elif store is None and corpus is not None and model is not None:
        index = _of_corpus(corpus, model, out, text_field, turned)
    else:
        raise UsageError("give --store, or --corpus with --model")
    if as_json:
        tell_json({"index": str(out), "documents": len(index), "dim": index.space.dim, "space": index.space.id})
        return
    tell(f"{out}: {len(index)} documents, {index.space.dim} dims")


def _require_indexable(documents: list[TextRow]) -> None:
    """Refuse before anything is embedded what no index can hold."""
    from leafkit.errors import InputError

    seen: dict[str, str] = {}
    for row in documents:
        if row.kind != "document":
            raise InputError(f"{row.place}: is a {row.kind}, an index holds documents")
        if row.id in seen:
            raise InputError(f"{row.place}: the id {row.id!r} stands at {seen[row.id]} already: give each its own")
        seen[row.id] = row.place


def _of_corpus(corpus: Path, model: str, out: Path, text_field: str, rotation: Rotation | None) -> Index:
    import shutil

    from leafkit.cli.console import progress_bar
    from leafkit.errors import CorruptData, SpaceMismatch
    from leafkit.index import Index
    from leafkit.io import read_texts
    from leafkit.store import EmbeddingStore, embed_texts
    from leafkit.students import open_student
    from leafkit.students.folder import student_space
    from leafkit.teachers import open_teacher

    documents = list(read_texts([corpus], kind="document", text_field=text_field))
    _require_indexable(documents)
    is_leaf = student_space(Path(model)) is not None
    encoder = open_student(model) if is_leaf else open_teacher(model, rotation=rotation)
    aside = out.absolute().with_name(f".{out.absolute().name}.embedding")  # a killed run goes on from here
    try:
        store = EmbeddingStore.open_or_create(aside, encoder.space, made_by=encoder.fingerprint)
    except (SpaceMismatch, CorruptData):  # left by a run with another model, or by one that the machine cut off
        shutil.rmtree(aside)
        store = EmbeddingStore.create(aside, encoder.space, made_by=encoder.fingerprint)
    with progress_bar() as on_progress:
        embed_texts(encoder, documents, store, total=len(documents), on_progress=on_progress)
    index = Index.from_texts(store, ((row.id, row.text) for row in documents), out)
    shutil.rmtree(aside)
    return index
