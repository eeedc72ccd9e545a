"""The run: from stores and a recipe to a student's folder, with a log, checkpoints and a held-out cosine on the way."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leafkit.blocks import LOCK, writer_lock
from leafkit.errors import CorruptData, RecipeError, TrainingStopped, UsageError
from leafkit.io.atomic import storage_errors, write_file
from leafkit.progress import OnProgress, Progress, silent
from leafkit.students import build_student, parse_spec, save_student
from leafkit.teachers.sentence_transformers import batches_by_length, cpu_has_bfloat16
from leafkit.training.batches import held_out_rows, learning_rate_factor, plan_epoch
from leafkit.training.checkpoints import Position, load_newest, save_checkpoint
from leafkit.training.data import Tokens, TrainingTexts, read_stores
from leafkit.training.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

SHOW_EVERY_S = 0.5
COSINE_PARTS = 10  # looks at the held-out rows in a run
BAD_STEPS = 3  # losses in a row that are not finite before the run stops
RECIPE, LOG, RECORD = "recipe.toml", "log.jsonl", "run.json"  # of a run's folder, and kept beside the student


@dataclass(frozen=True)
class DistilReport:
    """What a run gave: mean cosine to the teacher on held-out rows at the linear start and at the end."""

    folder: Path
    steps: int
    texts_seen: int
    texts: int
    held_out: int
    cosine_start: float
    cosine_end: float
    seconds: float


def distil(
    stores: Sequence[str | Path],
    recipe: Recipe,
    out: str | Path,
    *,
    resume: bool = False,
    on_progress: OnProgress = silent,
) -> DistilReport:
    """Train a student into the space of the stores' teacher (LEAF, arXiv 2509.12539: squared L2 on cached vectors).

    The run works in ``OUT.run`` (recipe.toml, log.jsonl, checkpoints); ``OUT`` appears when it is done. A run that was
    cut off goes on when the same call is made again. Ctrl-C ends it after the step in hand, with a checkpoint.

    Args:
        stores: folders of teacher vectors, all of one space.
        recipe: what to train and how.
        out: folder of the student.
        resume: if ``out`` is finished already, leave it as it is and give its report, instead of refusing.
        on_progress: told of steps, with loss, cosine, texts/s.

    Raises:
        UsageError: the output is there already and ``resume`` is not given.
        RecipeError: the run that is there was started with another recipe or with other texts.
        SpaceMismatch, InputError, CorruptData: the stores do not fit together or cannot be read.
        StorageError: the disk refused; what was trained is in ``OUT.run`` as far as it could be written.
        TrainingStopped: the loss was not finite three times in a row, or the student's vectors are not at the end.
    """
    folder, work = Path(out).absolute(), Path(f"{Path(out).absolute()}.run")
    parse_spec(recipe.student)  # a spec that means nothing is refused before anything is read
    if folder.exists():
        return _finished(folder, recipe, stores, resume=resume)
    if (work / RECIPE).exists():
        _require_same(recipe, work)
    elif work.is_dir() and (foreign := [path.name for path in work.iterdir() if path.name != LOCK]):
        raise UsageError(
            f"{work}: the run's own folder holds {foreign[0]!r}: choose another --out, or move that folder"
        )
    texts = read_stores(stores)
    recipe = recipe if recipe.base else recipe.model_copy(update={"base": texts.model})
    with writer_lock(work):
        try:
            run = _Run(texts, recipe, work, on_progress)
            write_file(work / RECIPE, recipe.to_toml().encode())
        finally:
            if not (work / RECIPE).exists():  # it never began: nothing may stand in the way of a better command
                shutil.rmtree(work)
        report = run.train()
        record = {"format": "leafkit.run", "texts_hash": texts.hash} | vars(report)
        record.pop("folder")
        write_file(work / RECORD, (json.dumps(record, indent=1) + "\n").encode())
        beside = (work / LOG, work / RECIPE, work / RECORD)
        save_student(run.model, texts.space, folder, recipe_hash=recipe.hash, beside=beside)
    shutil.rmtree(work, ignore_errors=True)
    return DistilReport(Path(out), **{k: v for k, v in vars(report).items() if k != "folder"})


def _finished(folder: Path, recipe: Recipe, stores: Sequence[str | Path], *, resume: bool) -> DistilReport:
    path = folder / RECORD
    if not resume or not path.is_file():
        what = "is there already" if path.is_file() else "is there already and is no finished run"
        raise UsageError(f"{folder} {what}: choose another --out, or remove it")
    _require_same(recipe, folder)
    try:
        record = json.loads(path.read_bytes())
        trained_on = record["texts_hash"]
        report = DistilReport(folder, **{k: v for k, v in record.items() if k not in ("format", "texts_hash")})
    except (ValueError, TypeError, KeyError) as exc:
        raise CorruptData(path, expected="the record of a run", found=repr(exc)) from exc
    if trained_on != read_stores(stores).hash:
        raise RecipeError(f"{folder}: was trained on other texts. Choose another --out, or remove the folder")
    return report


def _require_same(recipe: Recipe, folder: Path) -> None:
    before = Recipe.read(folder / RECIPE)
    given = recipe if recipe.base else recipe.model_copy(update={"base": before.base})
    if before != given:
        pairs = zip(before.model_dump().items(), given.model_dump().values(), strict=True)
        different = [f"{name} {old!r}, now {new!r}" for (name, old), new in pairs if old != new]
        raise RecipeError(
            f"{folder}: the run was started with {'; '.join(different)}. Give the same options, choose another --out,"
            " or remove the folder"
        )


class _Run:
    """One run in its folder: owns the model, the optimizer and the log."""

    def __init__(self, texts: TrainingTexts, recipe: Recipe, work: Path, on_progress: OnProgress) -> None:
        import torch

        self.texts, self.recipe, self.work, self.on_progress = texts, recipe, work, on_progress
        self.held_out = held_out_rows(texts.keys, recipe.held_out)
        self.trained = np.setdiff1d(np.arange(len(texts.prompted)), self.held_out)
        torch.manual_seed(recipe.seed)
        self.model, _ = self._start()
        self.tokens = Tokens.of(self.model, texts.prompted)
        self.optimizer = _optimizer(self.model, recipe)
        self.bfloat16 = cpu_has_bfloat16()
        self.targets = texts.vectors(self.held_out)
        self.identity = f"{recipe.hash}-{texts.hash}"

    def _start(self) -> tuple[SentenceTransformer, float]:
        random = np.random.default_rng(self.recipe.seed)
        count = min(self.recipe.start_sample, len(self.trained))
        sample = random.permutation(self.trained)[:count]
        return build_student(
            parse_spec(self.recipe.student),
            self.texts.space,
            base=self.recipe.base,
            prompted=[self.texts.prompted[row] for row in sample],
            targets=self.texts.vectors(sample),
            on_progress=self.on_progress,
        )

    def train(self) -> DistilReport:
        checkpoints = self.work / "checkpoints"
        cosine_start = self._cosine()
        position = load_newest(checkpoints, self.model, self.optimizer, identity=self.identity) or Position()
        self._log(event="start", cosine=cosine_start, texts=len(self.trained), position=vars(position))
        per_epoch = math.ceil(len(self.trained) / self.recipe.batch_size)
        last_step = math.ceil(self.recipe.epochs * per_epoch) if self.recipe.epochs else None
        began, before, shown, saved = time.monotonic(), position.seconds, 0.0, position.seconds
        first_step, cosine, bad = position.step, cosine_start, 0
        looked = int(COSINE_PARTS * self._progress(position, last_step))
        epoch, plan = -1, []
        with _interrupts_noted() as interrupts:
            while (progress := self._progress(position, last_step)) < 1.0:
                now_epoch, place = divmod(position.step, per_epoch)
                if now_epoch != epoch:
                    epoch, plan = now_epoch, self._plan(now_epoch)
                loss = self._step(self.trained[plan[place]], progress)
                seconds = before + time.monotonic() - began
                position = Position(position.step + 1, seconds, position.texts + len(plan[place]))
                bad = 0 if math.isfinite(loss) else bad + 1
                if bad == BAD_STEPS:
                    raise TrainingStopped(f"the loss was not finite {bad} times in a row, last at step {position.step}")
                if int(COSINE_PARTS * progress) > looked:
                    looked, cosine = int(COSINE_PARTS * progress), self._cosine()
                    self._log(event="cosine", step=position.step, texts=position.texts, cosine=cosine, seconds=seconds)
                self._log(event="step", step=position.step, loss=loss, rate=self.optimizer.param_groups[0]["lr"])
                if seconds - shown > SHOW_EVERY_S:
                    shown = seconds
                    self._show(position, first_step, last_step, loss, cosine, seconds - before)
                if interrupts or seconds - saved > self.recipe.checkpoint_minutes * 60:
                    saved = seconds
                    self._save(position)
                if interrupts:
                    raise KeyboardInterrupt
        cosine = self._cosine()
        if not math.isfinite(cosine):
            raise TrainingStopped(
                f"after {position.step} steps the student gives vectors that are not finite: lower --learning-rate"
                f" ({self.recipe.learning_rate}) and remove {self.work} to start anew"
            )
        if position.step > first_step:
            self._save(position)  # should writing the student fail, the training is not lost
        self._log(event="end", step=position.step, texts=position.texts, cosine=cosine, seconds=position.seconds)
        return DistilReport(
            self.work, position.step, position.texts, len(self.trained), len(self.held_out), cosine_start, cosine,
            position.seconds,
        )  # fmt: skip

    def _progress(self, position: Position, last_step: int | None) -> float:
        if last_step is not None:
            return position.step / last_step
        return position.seconds / ((self.recipe.minutes or 0.0) * 60)

    def _plan(self, epoch: int) -> list[NDArray[np.int64]]:
        return plan_epoch(
            self.tokens.lengths[self.trained],
            batch_size=self.recipe.batch_size,
            window=self.recipe.window,
            seed=self.recipe.seed,
            epoch=epoch,
        )

    def _step(self, rows: NDArray[np.int64], progress: float) -> float:
        import torch

        from leafkit.ops.torch import alignment_loss

        factor = learning_rate_factor(progress, warmup=self.recipe.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        teacher = torch.from_numpy(self.texts.vectors(rows))
        with torch.autocast("cpu", torch.bfloat16) if self.bfloat16 else nullcontext():
            student = self.model(self.tokens.batch(rows))["sentence_embedding"]
        loss = alignment_loss(student.float(), teacher, self.recipe.objective)
        if not torch.isfinite(loss):
            return float(loss.detach())
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return float(loss.detach())

    def _cosine(self) -> float:
        """Mean cosine of the held-out rows to their teacher vectors."""
        import torch

        total = 0.0
        lengths = self.tokens.lengths[self.held_out]
        with torch.inference_mode():
            for batch in batches_by_length(lengths.tolist(), 4096):
                out = self.model(self.tokens.batch(self.held_out[batch]))["sentence_embedding"].float()
                teacher = torch.from_numpy(self.targets[batch])
                total += float(torch.nn.functional.cosine_similarity(out, teacher).sum())
        return total / len(self.held_out)

    def _show(
        self, position: Position, first: int, last: int | None, loss: float, cosine: float, seconds: float
    ) -> None:
        rate = (position.step - first) * self.recipe.batch_size / max(seconds, 1e-9)
        note = f"loss {loss:.4f}  cosine {cosine:.4f}  {rate:.0f} texts/s"
        if last is not None:
            self.on_progress(Progress("distil", position.step, last, note))
        else:
            budget = int((self.recipe.minutes or 0) * 60)
            self.on_progress(Progress("distil", min(int(position.seconds), budget), budget, note))

    def _save(self, position: Position) -> None:
        save_checkpoint(
            self.work / "checkpoints",
            self.model,
            self.optimizer,
            position,
            space=self.texts.space,
            identity=self.identity,
        )

    def _log(self, **fields: Any) -> None:
        path = self.work / LOG
        with storage_errors(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(fields) + "\n")


@contextlib.contextmanager
def _interrupts_noted() -> Iterator[list[int]]:
    """Give a list that Ctrl-C puts itself into, so that a step is not cut in two; the second one ends it at once."""
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted  # signals are the main thread's
        return
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, _: object) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(number)

    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


def _optimizer(model: SentenceTransformer, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW; the projection starts from a fit and not from text, so it may move faster. No decay on vectors."""
    import torch

    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for module in model:
        factor = recipe.projection_factor if type(module).__name__ == "Dense" else 1.0
        for parameter in module.parameters():
            parameter.requires_grad_(True)
            decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((factor, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "weight_decay": decay, "peak": recipe.learning_rate * factor}
            for (factor, decay), parameters in groups.items()
        ],
        lr=recipe.learning_rate,
        fused=True,
    )
