"""distil: from a recipe to a student's folder. Guards the run's folder; the loop trains."""

from __future__ import annotations

import glob
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from leafkit.blocks import writer_lock
from leafkit.errors import RecipeError, UsageError
from leafkit.io.atomic import write_file
from leafkit.progress import OnProgress, silent
from leafkit.rotation import FILE as ROTATION
from leafkit.students import parse_spec, save_student
from leafkit.teachers.sentence_transformers import load_model
from leafkit.training.data import TrainingTexts, read_sources
from leafkit.training.gates import BEST, Development
from leafkit.training.log import LOG, RECIPE
from leafkit.training.recipe import Recipe
from leafkit.training.report import RECORD, DistilReport, read_record, write_record

TEXTS = "texts.hash"  # of a run's folder


def distil(
    recipe: Recipe,
    out: str | Path,
    *,
    resume: bool = False,
    development: Development | None = None,
    on_progress: OnProgress = silent,
) -> DistilReport:
    """Train a student into the space of the stores' teacher (LEAF, arXiv 2509.12539: squared L2 on cached vectors).

    The run works in ``OUT.run`` (recipe.toml, log.jsonl, checkpoints, the best student so far); ``OUT`` appears when it
    is done. A run that was cut off goes on when the same call is made again. Ctrl-C and SIGTERM end it after the step
    in hand, with a checkpoint. Under ``accelerate launch`` or ``torchrun`` every process makes the same call.

    Args:
        recipe: what to train, on what and how.
        out: folder of the student.
        resume: if ``out`` is finished already, leave it as it is and give its report, instead of refusing.
        development: the collection that ``recipe.gates.development`` names.
        on_progress: told of steps, with loss, cosine, texts/s.

    Raises:
        UsageError: the output is there already and ``resume`` is not given.
        RecipeError: the recipe does not fit the stores, or the run that is there was started with another recipe or
            with other texts.
        SpaceMismatch, InputError, CorruptData: the stores do not fit together or cannot be read.
        StorageError: the disk refused; what was trained is in ``OUT.run`` as far as it could be written.
        TrainingStopped: a gate ended the run.
        RunTerminated: SIGTERM ended the run.
    """
    folder, work = Path(out).absolute(), Path(f"{Path(out).absolute()}.run")
    parse_spec(recipe.student)  # a spec that means nothing is refused before anything is read
    if folder.exists():
        return _finished(folder, recipe, resume=resume)
    if recipe.gates.development is not None and development is None:
        raise RecipeError(
            f"the recipe follows {recipe.gates.development}: give that collection as development="
            "leafkit_eval.DevelopmentCollection(...), as the command line does"
        )
    there = [path.name for path in work.iterdir() if path.name[0] != "."] if work.is_dir() else []
    if RECIPE in there:
        _require_same(recipe, work)
    elif there:
        raise UsageError(f"{work}: the run's own folder holds {there[0]!r}: choose another --out, or move that folder")
    texts = read_sources(recipe.data)
    recipe = recipe if recipe.base else recipe.model_copy(update={"base": texts.model})
    return replace(_run(texts, recipe, folder, work, development, on_progress), folder=Path(out))


def _run(
    texts: TrainingTexts,
    recipe: Recipe,
    folder: Path,
    work: Path,
    development: Development | None,
    on_progress: OnProgress,
) -> DistilReport:
    from leafkit.training.loop import Loop  # torch, 2 s
    from leafkit.training.processes import Processes

    processes = Processes(recipe.batch_size)
    with writer_lock(work) if processes.first else nullcontext(), processes.peers_needed():
        fresh = processes.first and not (work / RECIPE).exists()
        try:
            if processes.first:
                _tidy(work, folder)
                write_file(work / RECIPE, recipe.to_toml().encode())
                _require_same_texts(texts, work)
            if processes.first and not (work / "checkpoints").is_dir():
                texts.require_sound()  # before anything is fitted to them
            loop = Loop(texts, recipe, work, processes, development, on_progress if processes.first else silent)
        except Exception:
            if fresh:  # it never began: nothing may stand in the way of a better command
                shutil.rmtree(work)
            raise
        report = loop.train()
        if processes.first:
            write_record(work, report, texts.hash)
            beside = tuple(path for name in (LOG, RECIPE, RECORD, ROTATION) if (path := work / name).exists())
            if folder.exists():
                raise UsageError(
                    f"{folder} has appeared since the run began: move it away and run the same command again; the leaf"
                    f" is in {work}"
                )
            best = load_model(max((work / BEST).glob("step-*")))[0].to(processes.device)
            with loop.as_written(best):
                save_student(best, loop.texts.space, folder, recipe_hash=recipe.hash, beside=beside)
    if processes.first:
        shutil.rmtree(work, ignore_errors=True)
    processes.wait()
    processes.end()
    return report


def _tidy(work: Path, folder: Path) -> None:
    """Remove what a kill left half-written; the names are ``leafkit.io.atomic``'s."""
    for scratch in (*work.rglob(".*.tmp"), *folder.parent.glob(f".{glob.escape(folder.name)}.*.tmp")):
        shutil.rmtree(scratch) if scratch.is_dir() else scratch.unlink(missing_ok=True)


def _require_same_texts(texts: TrainingTexts, work: Path) -> None:
    """What a run keeps from its start on (token ids, the linear start) is of the texts that it began with."""
    path = work / TEXTS
    if not path.exists():
        write_file(path, texts.hash.encode())
    elif (before := path.read_text(encoding="utf-8")) != texts.hash:
        raise RecipeError(
            f"{work}: the run began with texts {before}, the texts are others now ({texts.hash}). Give the stores as"
            " they were, choose another --out, or remove the folder"
        )


def _finished(folder: Path, recipe: Recipe, *, resume: bool) -> DistilReport:
    path = folder / RECORD
    if not resume or not path.is_file():
        what = "is there already" if path.is_file() else "is there already and is no finished run"
        raise UsageError(f"{folder} {what}: choose another --out, or remove it")
    _require_same(recipe, folder)
    report, trained_on = read_record(folder)
    if trained_on != read_sources(recipe.data).hash:
        raise RecipeError(f"{folder}: was trained on other texts. Choose another --out, or remove the folder")
    return report


def _require_same(recipe: Recipe, folder: Path) -> None:
    before = Recipe.read(folder / RECIPE)
    given = recipe if recipe.base else recipe.model_copy(update={"base": before.base})
    pairs = zip(before.identity.items(), given.identity.values(), strict=True)
    different = [f"{name} {old!r}, now {new!r}" for (name, old), new in pairs if old != new]
    if different:
        raise RecipeError(
            f"{folder}: the run was started with {'; '.join(different)}. Give the same options, choose another --out,"
            " or remove the folder"
        )
