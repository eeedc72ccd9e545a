"""The run: from stores and a recipe to a student's folder, with a log, checkpoints and a held-out cosine on the way."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leafkit.blocks import writer_lock
from leafkit.errors import RecipeError, TrainingStopped, UsageError
from leafkit.io.atomic import write_file
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

    The run works in ``OUT.run`` (recipe.toml, log.jsonl, checkpoints); ``OUT`` appears when it is done.

    Args:
        stores: folders of teacher vectors, all of one space.
        recipe: what to train and how.
        out: folder of the student.
        resume: go on with the run in ``OUT.run`` if there is one; a finished run is left as it is.
        on_progress: told of steps, with loss, cosine, texts/s.

    Raises:
        UsageError: the output, or an unfinished run, is there already and ``resume`` is not given.
        RecipeError: the run that is there was started with another recipe.
        SpaceMismatch, InputError, CorruptData: the stores do not fit together or cannot be read.
        TrainingStopped: the loss was not finite three times in a row.
    """
    folder, work = Path(out), Path(f"{out}.run")
    _check_place(folder, work, recipe, resume=resume)
    if folder.exists():
        return _report_of(folder)
    texts = read_stores(stores)
    recipe = recipe if recipe.base else recipe.model_copy(update={"base": texts.model})
    with writer_lock(work):
        write_file(work / "recipe.toml", recipe.to_toml().encode())
        run = _Run(texts, recipe, work, on_progress)
        report = run.train()
        log, toml = work / "log.jsonl", work / "recipe.toml"
        record = {"format": "leafkit.run", **{k: v for k, v in vars(report).items() if k != "folder"}}
        write_file(work / "run.json", (json.dumps(record, indent=1) + "\n").encode())
        save_student(run.model, texts.space, folder, recipe_hash=recipe.hash, beside=(log, toml, work / "run.json"))
        shutil.rmtree(work / "checkpoints", ignore_errors=True)
    shutil.rmtree(work, ignore_errors=True)
    return DistilReport(folder, **{k: v for k, v in vars(report).items() if k != "folder"})


def _check_place(folder: Path, work: Path, recipe: Recipe, *, resume: bool) -> None:
    parse_spec(recipe.student)  # a spec that means nothing is refused before anything is read
    if folder.exists() and not resume:
        raise UsageError(f"{folder} is there already: choose another --out, or remove it")
    if (work / "recipe.toml").exists() and not folder.exists():
        if not resume:
            raise UsageError(f"{work} holds an unfinished run: go on with --resume, or remove it to start anew")
        before = Recipe.read(work / "recipe.toml")
        given = recipe if recipe.base else recipe.model_copy(update={"base": before.base})
        if before != given:
            pairs = zip(before.model_dump().items(), given.model_dump().values(), strict=True)
            different = [f"{name} {old!r}, now {new!r}" for (name, old), new in pairs if old != new]
            raise RecipeError(f"{work}: the run was started with {'; '.join(different)}")


def _report_of(folder: Path) -> DistilReport:
    path = folder / "run.json"
    if not path.is_file():
        raise UsageError(f"{folder} is there already and is no finished run: choose another --out")
    record = json.loads(path.read_bytes())
    return DistilReport(folder, **{k: v for k, v in record.items() if k != "format"})


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
        position = load_newest(checkpoints, self.model, self.optimizer, recipe_hash=self.recipe.hash) or Position()
        self._log(event="start", cosine=cosine_start, texts=len(self.trained), position=vars(position))
        per_epoch = math.ceil(len(self.trained) / self.recipe.batch_size)
        last_step = math.ceil(self.recipe.epochs * per_epoch) if self.recipe.epochs else None
        began, before, shown, saved = time.monotonic(), position.seconds, 0.0, position.seconds
        first_step, cosine, bad = position.step, cosine_start, 0
        looked = int(COSINE_PARTS * self._progress(position, last_step))
        epoch, plan = -1, []
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
            if seconds - saved > self.recipe.checkpoint_minutes * 60:
                saved = seconds
                self._save(position)
        cosine = self._cosine()
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
            return float(loss)
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
            recipe_hash=self.recipe.hash,
        )

    def _log(self, **fields: Any) -> None:
        with (self.work / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(fields) + "\n")


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
    )
