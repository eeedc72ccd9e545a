"""``leafkit distill``: a leaf from stores of teacher vectors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from leafkit.progress import OnProgress
    from leafkit.training import Recipe
    from leafkit.training.gates import Development


def distill(
    out: Annotated[Path, typer.Option(help="Folder of the leaf; appears when the run is done.")],
    store: Annotated[
        list[Path] | None, typer.Option(help="Store made by `leafkit embed` or `leafkit import`; once a store.")
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(help="layers:N (the first N; or layers:N:spaced), static, or a model's folder or hub name."),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Recipe in TOML; options given here go before what it says.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="leaf (LEAF's own, 30 epochs), fast (10 minutes) or static; leaf, or static for static."),
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Train for this long.")] = None,
    epochs: Annotated[float | None, typer.Option(min=0.001, help="Or for this many passes over the texts.")] = None,
    base: Annotated[
        str | None, typer.Option(help="Model to cut layers or tokens from; the teacher if not given.")
    ] = None,
    development: Annotated[
        Path | None, typer.Option(help="BEIR folder whose nDCG@10 is followed; the best leaf on it is kept.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on, or start; if OUT is finished already, say so and end well.")
    ] = False,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Texts a step; 32 (256 for static).")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak rate; the preset's if not given.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the order of texts.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for machines.")] = False,
) -> None:
    """Train a student into its teacher's space.

    A run that was cut off goes on when the same command is given again. SIGTERM ends it with a checkpoint and exit
    code 143, Ctrl-C with 130. In many processes: torchrun --nproc-per-node 2 -m leafkit distill ...

    Example: leafkit distill --store notes.store --student layers:3 --out leaf --preset fast --minutes 10
    """
    from leafkit.cli.console import progress_bar, tell, tell_json
    from leafkit.training import distil

    asked = _asked(
        recipe,
        preset,
        student=student,
        data=store,
        base=base,
        minutes=minutes,
        epochs=epochs,
        gates=None if development is None else {"development": str(development)},
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
    )
    finished = out.exists()
    with progress_bar() as on_progress:
        follows = None if finished else _development(asked, on_progress)
        report = distil(asked, out, resume=resume, development=follows, on_progress=on_progress)
    if os.environ.get("RANK", "0") != "0":
        return  # of many processes the first speaks
    if as_json:
        tell_json({**vars(report), "folder": str(report.folder), "finished_before": finished})
        return
    before = "finished before, left as it is; " if finished else ""
    tell(
        f"{report.folder}: {before}{report.texts_seen} texts seen ({report.texts} an epoch) in"
        f" {report.seconds / 60:.1f} min;"
        f" cosine to the teacher {report.cosine_start:.3f} at the linear start, {report.cosine_end:.3f} in training"
    )


def _asked(path: Path | None, preset_name: str | None, **options: Any) -> Recipe:
    """The recipe of a file, a preset and options: what is more particular goes first."""
    from leafkit.errors import UsageError
    from leafkit.training.recipe import make_recipe, read_fields, with_preset

    given = {name: value for name, value in options.items() if value is not None}
    if "minutes" in given and "epochs" in given:
        raise UsageError("give --minutes or --epochs, one of the two")
    fields = {} if path is None else read_fields(path)
    if "minutes" in given or "epochs" in given:
        fields = {name: value for name, value in fields.items() if name not in ("minutes", "epochs")}
    if "gates" in given and isinstance(fields.get("gates"), dict):
        given["gates"] = fields["gates"] | given["gates"]
    fields |= given
    if "student" not in fields:
        raise UsageError("give --student, or --recipe with a student in it")
    if not fields.get("data"):
        raise UsageError("give --store, or --recipe with [[data]] in it")
    named = fields.pop("preset", None)
    if path is None:
        named = "static" if fields["student"] == "static" else "leaf"
    chosen = preset_name or named
    if chosen is not None:
        fields = with_preset(chosen, fields)
    return make_recipe(fields, source=str(path or "recipe"))


def _development(recipe: Recipe, on_progress: OnProgress) -> Development | None:
    if recipe.gates.development is None:
        return None
    from leafkit.cli.console import require_packages
    from leafkit.errors import UsageError
    from leafkit.store import EmbeddingStore
    from leafkit.students import open_encoder

    require_packages("pytrec_eval", extra="judge")
    from leafkit_eval import DevelopmentCollection, load_collection

    collection = load_collection(recipe.gates.development, split=recipe.gates.split)
    stores = [EmbeddingStore.open(source.store) for source in recipe.data]
    model = next((store.model for store in stores if store.model), None)
    if model is None:
        raise UsageError("no store names its teacher's model, which the development collection needs")
    teacher = open_encoder(model, stores[0].space, whose=str(stores[0].folder))
    return DevelopmentCollection(collection, teacher, on_progress=on_progress)
