"""The loop of a run: steps, gates, log and checkpoints, in one process or many."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from leafkit.errors import RecipeError, RunTerminated
from leafkit.io.atomic import new_folder
from leafkit.progress import OnProgress, Progress
from leafkit.rotation import FILE as ROTATION
from leafkit.rotation import Rotation
from leafkit.space import KINDS
from leafkit.students import build_student, parse_spec, pooled_vectors, projection_of, table_of, whitened, write_student
from leafkit.teachers.sentence_transformers import TOKENS_PER_BATCH, SentenceEncoder, batches_by_length, load_model
from leafkit.training.batches import Order, held_out_rows, learning_rate_factor
from leafkit.training.checkpoints import Position, load_newest, save_checkpoint
from leafkit.training.data import Tokens, TrainingTexts
from leafkit.training.gates import BEST, BestStudent, Development, FiniteLoss, mean_cosine, require_learning
from leafkit.training.log import open_log
from leafkit.training.objectives import Objective
from leafkit.training.optimizer import MovingAverage, drawn_to, make_optimizer, move, set_rates
from leafkit.training.processes import Processes
from leafkit.training.recipe import Recipe
from leafkit.training.report import DistilReport
from leafkit.training.student import TrainedStudent, freeze_unused

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

SHOW_EVERY_S = 0.5
GATES_IN_A_RUN = 10
WHITENED_ON = 2048  # texts whose second moment is evened out
RANKED = 512  # documents a step, where the recipe asks for the ranking term
NOT_MINE, NO_NUMBER = -math.inf, -2.0  # a gate's cosine where another process measured it; where it is NaN


class Loop:
    """One run in its folder ``work``: owns the student, the optimizer and the log."""

    def __init__(
        self,
        texts: TrainingTexts,
        recipe: Recipe,
        work: Path,
        processes: Processes,
        development: Development | None,
        on_progress: OnProgress,
    ) -> None:
        self.recipe, self.work, self.on_progress = recipe, work, on_progress
        self.processes = processes
        normalized = texts.space.normalized and recipe.normalized
        self.objective = Objective(recipe.objective, recipe.prefixes, normalized, recipe.ranking)
        self.objective.require_fits(texts.space.dim)
        if recipe.whitened and not texts.space.normalized:
            raise RecipeError("whitened: it changes lengths of vectors, which mean something in this space: take false")
        self.development = development if processes.first else None
        self.held_out = held_out_rows(texts.keys, recipe.held_out)
        trained = np.setdiff1d(np.arange(len(texts.prompted)), self.held_out)
        shares = texts.shares(trained)
        for rows, weight in shares:
            if weight * len(rows) < 1:
                raise RecipeError(f"data: weight {weight} of {len(rows)} texts is less than one text an epoch")
        torch.manual_seed(recipe.seed)
        drawn = np.random.default_rng(recipe.seed).permutation(trained)
        sample, self.sample = drawn[: recipe.start_sample], drawn[:WHITENED_ON]
        self.texts = self._turned(texts, sample)
        self.model = self._start(sample)
        can = projection_of(self.model) is not None or table_of(self.model) is not None
        if recipe.whitened and not can:
            raise RecipeError(
                "whitened: the student ends in no linear projection (Dense) and is no token table (StaticEmbedding):"
                " take false"
            )
        self.whitens = recipe.whitens(texts.space) and can
        self.tokens = self._read_tokens()
        self.student = TrainedStudent(self.model, self.tokens, recipe)
        freeze_unused(self.student, self.tokens.ids(self.held_out[:1]))
        self.optimizer = make_optimizer(self.model, recipe)
        self.average = MovingAverage(self.model, recipe.ema)
        self.order = Order(
            self.tokens.lengths, shares, batch_size=recipe.batch_size, window=recipe.window,
            seed=recipe.seed,
        )  # fmt: skip
        self.weights = texts.loss_weights(recipe.kind_weights)
        self.targets = self.texts.vectors(self.held_out)
        documents = trained[texts.kinds[trained] == KINDS.index("document")]
        self.ranked = documents if len(documents) else trained
        self.identity = f"{recipe.hash}-{texts.hash}"

    def _turned(self, texts: TrainingTexts, sample: NDArray[np.int64]) -> TrainingTexts:
        """The texts in the space of the student, turned if the recipe says so; the rotation is fitted once."""
        if self.recipe.rotate is None:
            return texts
        path = self.work / ROTATION
        if self.processes.first and not path.is_file():
            Rotation.fit(texts.vectors(sample)).save(path)
        self.processes.wait()
        return texts.turned(Rotation(np.load(path)))

    def _start(self, sample: NDArray[np.int64]) -> SentenceTransformer:
        """The student at its linear start, made once by the first process and kept in the run's folder."""
        folder = self.work / "start"
        if self.processes.first and not folder.is_dir():
            made, _ = build_student(
                parse_spec(self.recipe.student),
                self.texts.space,
                base=self.recipe.base,
                prompted=[self.texts.prompted[row] for row in sample],
                targets=self.texts.vectors(sample),
                on_progress=self.on_progress,
            )
            with new_folder(folder) as scratch:
                write_student(made, self.texts.space, scratch)
        self.processes.wait()
        return load_model(folder)[0].to(self.processes.device)

    def _read_tokens(self) -> Tokens:
        folder = self.work / "tokens"
        if not self.processes.first:
            self.processes.wait()
        tokens = Tokens.cached(self.model, self.texts.prompted, folder)
        if self.processes.first:
            self.processes.wait()
        return tokens

    def train(self) -> DistilReport:
        """Take every step that is left.

        Raises:
            TrainingStopped: a gate ended the run.
            RunTerminated: SIGTERM came; a checkpoint was saved.
            KeyboardInterrupt: Ctrl-C came; a checkpoint was saved.
        """
        with open_log(self.work) if self.processes.first else nullcontext() as log:
            return self._train(log.write if log else _say_nothing)

    def _train(self, log: Callable[..., None]) -> DistilReport:
        start = self._cosine()
        loaded = load_newest(
            self.work / "checkpoints", self.model, self.optimizer, self.average, identity=self.identity
        )
        position = loaded or Position()
        module = self.processes.wrap(self.student)
        best = BestStudent(self.work / BEST)
        finite = FiniteLoss(self.texts, self.work)
        teacher = self.development.prepare(self.work / "development", self.texts.rotation) if self.development else {}
        log(
            event="start", cosine=start, held_out=len(self.held_out), texts_in_all=len(self.texts.prompted),
            world=self.processes.count, **teacher, **vars(position),
        )  # fmt: skip
        last_step = math.ceil(self.recipe.epochs * self.order.steps_per_epoch) if self.recipe.epochs else None
        began, before, shown, saved = time.monotonic(), position, 0.0, position.seconds
        cosine, gated_at = start, -1
        epoch, plan = -1, []
        with _signals_noted() as signals:
            while (progress := self._progress(position, last_step)) < 1.0:
                now_epoch, place = divmod(position.step, self.order.steps_per_epoch)
                if now_epoch != epoch:
                    epoch, plan = now_epoch, self.order.epoch(now_epoch)
                rate = set_rates(
                    self.optimizer,
                    learning_rate_factor(progress, warmup=self.recipe.warmup, cycles=self.recipe.cycles),
                )
                loss, norm = self._step(module, plan[place], position.step)
                self.average.update(position.step)
                wanted, seconds = self.processes.largest(
                    max(signals, default=0), before.seconds + time.monotonic() - began
                )
                position = Position(position.step + 1, seconds, position.texts + len(plan[place]))
                log(event="step", loss=loss, rate=rate, gradient_norm=norm, **vars(position))
                finite.check(loss, position.step, plan[place])
                now = self._progress(position, last_step)
                if self._gate_is_due(position.step, progress, now):
                    cosine, gated_at = self._gate(best, position, log), position.step
                    self._require_learning(start, cosine, now, position.step)
                if seconds - shown > SHOW_EVERY_S:
                    shown = seconds
                    self._show(position, before, last_step, loss, cosine)
                if wanted or seconds - saved > self.recipe.checkpoint_minutes * 60:
                    saved = seconds
                    self._save(position)
                if wanted:
                    raise _ending(int(wanted), position.step)
        if gated_at != position.step:  # the last step was no gate, or another process took it
            cosine = self._gate(best, position, log)
        if position.step != before.step:
            self._save(position)  # should writing the student fail, the training is not lost
        self._require_learning(start, cosine, 1.0, position.step)
        log(event="end", cosine=cosine, best_step=best.step, **vars(position))
        return DistilReport(
            self.work, position.step, position.texts, self.order.rows_per_epoch, len(self.held_out), start, cosine,
            best.step, position.seconds,
        )  # fmt: skip

    def _progress(self, position: Position, last_step: int | None) -> float:
        if last_step is not None:
            return position.step / last_step
        return position.seconds / ((self.recipe.minutes or 0.0) * 60)

    def _step(self, module: torch.nn.Module, batch: NDArray[np.int64], step: int) -> tuple[float, float]:
        """Take one step; give the whole batch's loss and gradient norm. A loss that is not finite moves nothing."""
        rows, share = self.processes.share(batch)
        teacher = torch.from_numpy(self.texts.vectors(rows)).to(self.processes.device)
        weights = None if self.weights is None else torch.from_numpy(self.weights[rows]).to(self.processes.device)
        documents = None
        if self.recipe.ranking:
            drawn = self.texts.some_vectors(self.ranked, RANKED, seed=self.recipe.seed, step=step)
            documents = torch.from_numpy(drawn).to(self.processes.device)
        loss = self.objective(module(self.tokens.ids(rows)), teacher, weights, documents) * share
        of_all = self.processes.mean(loss)
        if not math.isfinite(of_all):
            return of_all, math.nan
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        return of_all, move(self.optimizer)

    def _gate_is_due(self, step: int, before: float, now: float) -> bool:
        if self.recipe.gates.every is not None:
            return step % self.recipe.gates.every == 0
        return int(GATES_IN_A_RUN * now) > int(GATES_IN_A_RUN * before)

    def _gate(self, best: BestStudent, position: Position, log: Callable[..., None]) -> float:
        """Measure the student, the first process alone, the others wait; give the cosine."""
        values = {"cosine": NOT_MINE}
        if self.processes.first:
            with self.average.in_place():
                values = {"cosine": self._cosine()}
                if self.development is not None and math.isfinite(values["cosine"]):
                    with self.as_written(self.model):
                        values |= self.development.judge(SentenceEncoder(self.model, self.texts.space, "in-training"))
                best.offer(self.model, self.texts.space, position.step, values)
            log(event="gate", **values, **vars(position))
        return self._agreed(values["cosine"])

    @contextlib.contextmanager
    def as_written(self, model: SentenceTransformer) -> Iterator[None]:
        """Draw a student of this run to its start and even it out, as the recipe has it, while the context lasts."""
        with contextlib.ExitStack() as stack:
            if self.recipe.start_share:
                start, _ = load_model(self.work / "start")
                stack.enter_context(drawn_to(model, start, self.recipe.start_share))
            if self.whitens:
                stack.enter_context(whitened(model, self._pooled(model)))
            yield

    def _pooled(self, model: SentenceTransformer) -> list[NDArray[np.float32]]:
        """Pooled vectors of a sample of the training texts."""
        with pooled_vectors(model) as pooled:
            done = 0
            for batch, _ in self._vectors(TrainedStudent(model, self.tokens, self.recipe), self.sample):
                done += len(batch)
                self.on_progress(Progress("write", done, len(self.sample), "student's vectors, to even out"))
        return pooled

    def _require_learning(self, start: float, cosine: float, progress: float, step: int) -> None:
        require_learning(start, cosine, progress=progress, step=step, tolerance=self.recipe.gates.tolerance)

    def _agreed(self, value: float) -> float:
        """The first process's value: a number, or NaN, which no maximum keeps."""
        largest = self.processes.largest(value if math.isfinite(value) or value == NOT_MINE else NO_NUMBER)[0]
        return math.nan if largest == NO_NUMBER else largest

    def _cosine(self) -> float:
        """Mean cosine of the held-out rows to their teacher vectors."""
        ours, theirs = [], []
        for batch, vectors in self._vectors(self.student, self.held_out):
            ours.append(vectors)
            theirs.append(self.targets[batch])
        return mean_cosine(ours, theirs)

    def _vectors(
        self, student: TrainedStudent, rows: NDArray[np.int64]
    ) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
        """The student's vectors of rows, batch by batch, each with the places of its rows."""
        for batch in batches_by_length(self.tokens.lengths[rows].tolist(), TOKENS_PER_BATCH):
            with torch.inference_mode():
                vectors = student(self.tokens.ids(rows[batch])).cpu().numpy()
            yield batch, vectors  # out of that mode, which is the thread's

    def _show(self, position: Position, before: Position, last: int | None, loss: float, cosine: float) -> None:
        rate = (position.texts - before.texts) / max(position.seconds - before.seconds, 1e-9)
        note = f"loss {loss:.4f}  cosine {cosine:.4f}  {rate:.0f} texts/s"
        if last is not None:
            self.on_progress(Progress("distil", position.step, last, note))
        else:
            budget = max(1, int((self.recipe.minutes or 0) * 60))
            self.on_progress(Progress("distil", min(int(position.seconds), budget), budget, note))

    def _save(self, position: Position) -> None:
        if self.processes.first:
            save_checkpoint(
                self.work / "checkpoints", self.model, self.optimizer, self.average, position, identity=self.identity
            )
        self.processes.wait()


def _say_nothing(**fields: object) -> None:
    """Of many processes the first one writes the log."""


def _ending(number: int, step: int) -> BaseException:
    if number == signal.SIGTERM:
        return RunTerminated(f"SIGTERM: saved at step {step}. Run the same command again to go on")
    return KeyboardInterrupt()


@contextlib.contextmanager
def _signals_noted() -> Iterator[list[int]]:
    """Give a list that Ctrl-C and SIGTERM put themselves into, so that a step is not cut in two; a second ends it."""
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted  # signals are the main thread's
        return

    def note(number: int, _: object) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
