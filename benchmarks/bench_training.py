"""Training texts/s beside SentenceTransformerTrainer: the same texts, start, batch size and precision, steps in turn.

The trainer with its defaults (random batches, dropout) and the one without dropout take a step after each of ours. All
go over the texts twice, and the second pass counts: in the first one torch prepares a product of each size that it
meets, which a run does once. The cosine to the teacher on held-out texts at the end stands beside the rates. Needs a
store of teacher vectors and a student: --store S --student MODEL; --quick makes both (random weights).
"""

import statistics
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from form import arguments, finish, row

PASSES = 2


def main() -> None:
    options = arguments(__doc__, _more)
    import torch

    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        if options.quick:
            options.store, options.student, options.steps = *_small(Path(folder)), 3
        arms = _arms(options, Path(folder))
        for _ in range(PASSES * options.steps):
            for arm in arms:
                arm.step()
        ours, *others = arms
        rows = []
        useful = 6 * ours.parameters_a_token * ours.mean_tokens  # two FLOP a weight, forward and twice that back
        share = ours.rate(options.batch) * useful / _bfloat16_peak(options)
        case = f"step of {options.batch}, mean {ours.mean_tokens:.0f} tokens, {options.steps} steps"
        for other in others:
            rows.append(
                row(
                    case, other.name, "sentence-transformers", other.rate(options.batch), ours.rate(options.batch),
                    "texts/s", quality=ours.cosine(), peer_quality=other.cosine(), limit_share=share,
                )
            )  # fmt: skip
        finish(rows, options)


def _more(parser) -> None:
    parser.add_argument("--store", help="store of teacher vectors")
    parser.add_argument("--student", help="model to train")
    parser.add_argument("--steps", type=int, default=40, help="of each, in a pass")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1e-4, help="learning rate, the same throughout")


def _arms(options, folder: Path) -> list:
    """Ours and the others, all from one linear start, over the same texts."""
    from leafkit.students import build_student, parse_spec
    from leafkit.training import preset
    from leafkit.training.batches import held_out_rows
    from leafkit.training.data import Tokens, read_sources

    recipe = preset(
        options.student, "leaf", data=[options.store], epochs=1, batch_size=options.batch, learning_rate=options.rate
    )
    texts = read_sources(recipe.data)
    held_out = held_out_rows(texts.keys, 512)
    random = np.random.default_rng(0)
    free = random.permutation(np.setdiff1d(np.arange(len(texts.keys)), held_out))
    rows = free[: options.batch * options.steps]
    start, _ = build_student(
        parse_spec(options.student), texts.space, base=None, prompted=[texts.prompted[row] for row in free[:4096]],
        targets=texts.vectors(free[:4096]),
    )  # fmt: skip
    start.save(str(folder / "start"), create_model_card=False)
    tokens = Tokens.of(start, texts.prompted)
    shared = (folder / "start", texts, tokens, rows, held_out, recipe, options)
    defaults = "SentenceTransformerTrainer, defaults"
    return [
        _Ours("leafkit", *shared),
        _Trainer(defaults, "EmbedDistillLoss", True, *shared),
        _Trainer(f"{defaults}, MSELoss", "MSELoss", True, *shared),
        _Trainer("the same without dropout", "EmbedDistillLoss", False, *shared),
    ]


class _Arm:
    def __init__(self, name, start, texts, tokens, rows, held_out, recipe, options) -> None:
        from sentence_transformers import SentenceTransformer

        self.name, self.texts, self.tokens, self.rows, self.held_out = name, texts, tokens, rows, held_out
        self.recipe, self.options = recipe, options
        self.model = SentenceTransformer(str(start), device="cpu")
        self.seconds: list[float] = []

    def rate(self, batch: int) -> float:
        return batch / statistics.mean(self.seconds[-self.options.steps :])  # batches are of different lengths

    def cosine(self) -> float:
        import torch

        from leafkit.training.gates import mean_cosine

        self.model.eval()
        prompted = [self.texts.prompted[row] for row in self.held_out]
        with torch.inference_mode():
            vectors = self.model.encode(prompted, batch_size=64, convert_to_numpy=True)
        return mean_cosine([vectors], [self.texts.vectors(self.held_out)])


class _Ours(_Arm):
    def __init__(self, *shared) -> None:
        super().__init__(*shared)
        from leafkit.training.batches import Order
        from leafkit.training.objectives import Objective
        from leafkit.training.optimizer import make_optimizer, set_rates
        from leafkit.training.student import TrainedStudent, freeze_unused

        self.student = TrainedStudent(self.model, self.tokens, self.recipe)
        freeze_unused(self.student, self.tokens.ids(self.held_out[:1]))
        self.optimizer = make_optimizer(self.model, self.recipe)
        set_rates(self.optimizer, 1.0)
        self.objective = Objective()
        order = Order(self.tokens.lengths, [(self.rows, 1.0)], self.options.batch, self.recipe.window, 0)
        self.plan = order.epoch(0) * PASSES
        self.mean_tokens = float(self.tokens.lengths[self.rows].mean())
        self.parameters_a_token = _count(self.model[0].auto_model.encoder)

    def step(self) -> None:
        import torch

        from leafkit.training.optimizer import move

        began = time.perf_counter()
        batch = self.plan[len(self.seconds)]
        teacher = torch.from_numpy(self.texts.vectors(batch))
        loss = self.objective(self.student(self.tokens.ids(batch)), teacher)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        move(self.optimizer)
        self.seconds.append(time.perf_counter() - began)


class _Trainer(_Arm):
    """A SentenceTransformerTrainer in a thread of its own that waits before each step until it is its turn."""

    def __init__(self, name, loss, dropout, *shared) -> None:
        super().__init__(name, *shared)
        self._turn, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._loss, self._dropout = loss, dropout
        self._failed: Exception | None = None
        threading.Thread(target=self._run, daemon=True).start()
        self._wait()  # trainers being made share a state, one would see the other's half of it

    def step(self) -> None:
        self._turn.release()
        self._wait()

    def _wait(self) -> None:
        self._done.acquire()
        if self._failed is not None:
            raise self._failed

    def _run(self) -> None:
        try:
            self._train()
        except Exception as error:  # noqa: BLE001  # whatever it is, the caller raises it
            self._failed = error
            self._done.release()

    def _train(self) -> None:
        import datasets
        import torch
        from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments, losses
        from transformers import TrainerCallback

        torch.set_num_threads(self.options.threads)
        if not self._dropout:
            for module in self.model.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
        arm = self

        class InTurn(TrainerCallback):
            def on_train_begin(self, args, state, control, **kwargs) -> None:
                arm._done.release()
                self._begin()

            def on_step_end(self, args, state, control, **kwargs) -> None:
                arm.seconds.append(time.perf_counter() - self._began)
                arm._done.release()
                if state.global_step < state.max_steps:
                    self._begin()

            def _begin(self) -> None:
                arm._turn.acquire()
                self._began = time.perf_counter()

        loss = losses.MSELoss(self.model) if self._loss == "MSELoss" else losses.EmbedDistillLoss(self.model)
        data = datasets.Dataset.from_dict(
            {"text": [self.texts.prompted[row] for row in self.rows], "label": list(self.texts.vectors(self.rows))}
        )
        with tempfile.TemporaryDirectory() as folder:
            arguments = SentenceTransformerTrainingArguments(
                output_dir=folder, num_train_epochs=PASSES, per_device_train_batch_size=self.options.batch, bf16=True,
                learning_rate=self.options.rate, lr_scheduler_type="constant", use_cpu=True, report_to=[],
                save_strategy="no", logging_strategy="no", disable_tqdm=True,
            )  # fmt: skip
            SentenceTransformerTrainer(
                model=self.model, args=arguments, train_dataset=data, loss=loss, callbacks=[InTurn()]
            ).train()


def _count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.ndim > 1)


def _bfloat16_peak(options) -> float:
    """FLOP/s of torch's bfloat16 product at a shape it likes, the best of several."""
    import torch

    a, b = torch.randn(2048, 1024).bfloat16(), torch.randn(1024, 1024).bfloat16()
    times = []
    for _ in range(30):
        began = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - began)
    return 2 * 2048 * 1024 * 1024 / min(times)


def _small(folder: Path) -> tuple[str, str]:
    """A store of random words and a random BERT of two layers."""
    import sys

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from leafkit.store import EmbeddingStore, embed_texts
    from leafkit.teachers import open_teacher
    from tests import tiny

    model = tiny.save_teacher(folder / "teacher")
    teacher = open_teacher(model)
    store = EmbeddingStore.create(folder / "texts.store", teacher.space, model=str(model))
    embed_texts(teacher, tiny.texts(800), store)
    return str(folder / "texts.store"), str(model)


if __name__ == "__main__":
    main()
