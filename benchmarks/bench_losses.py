"""Losses, value and gradient in the student, beside torch and sentence-transformers: batches/s, and memory at the most.

Peers: eager torch, torch.compile of the same, torch over blocks of 256 rows (each block's gradient formed before the
next, nothing of B x B kept), sentence-transformers' own loss where it has one. Quality is the error of the gradient
against float64, relative to its length. Memory is what a fresh process holds at the most above its inputs, gradient
included.
`exact` has products in float32.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from form import arguments, finish, median_seconds, row

PREFIXES = (64, 128, 256, 512, 768)
TEMPERATURE = 0.05
BLOCK = 256
CASES = ("squared_l2", "cosine", "cosine at 5 prefixes", "relational", "listwise KL", "contrastive")
MEMORY = "import sys; sys.path.insert(0, {folder!r}); import bench_losses; bench_losses.tell_memory(*{of!r})"


def main() -> None:
    options = arguments(__doc__, _more)
    import torch

    torch.set_num_threads(options.threads)
    if options.hold:
        from leafkit.training.student import keep_freed_memory

        keep_freed_memory()
    sizes = [(32, 768), (512, 768)] if options.quick else [(32, 768), (options.batch, 768)]
    rows = []
    for batch, dim in sizes:
        for case in [options.only] if options.only else CASES:
            arms = _arms(case, *_vectors(batch, dim))
            truth = _truth(case, *_vectors(batch, dim)) if batch <= 4096 else None
            errors = {name: _error(call(), truth) for name, call in arms.items()}
            if max(errors.values()) > 0.05 and case != "contrastive":  # its gradient is a difference of near numbers
                raise AssertionError(f"{case}: errors of the gradient {errors}")
            taken = median_seconds(arms, 15 if batch < 1024 or case in CASES[:3] else 3)
            ours = [name for name in arms if name.startswith("leafkit")]
            for name in arms:
                for own in ours if name not in ours else ():
                    label = f"{case}, {batch} x {dim}{own.removeprefix('leafkit')}"
                    rows.append(
                        row(label, name, _package(name), 1 / taken[name], 1 / taken[own], "batches/s",
                            quality=errors[own], peer_quality=errors[name])
                    )  # fmt: skip
            if batch >= 1024:
                held = {name: _memory(case, name, batch, dim, options.threads) for name in arms}
                rows += [
                    row(f"{case}, {batch} x {dim}", name, _package(name), held[name], held["leafkit"], "MiB")
                    for name in arms if name not in ours
                ]  # fmt: skip
    finish(rows, options)


def _more(parser) -> None:
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--hold", action="store_true", help="hold freed memory, for all peers, as leafkit distill does")
    parser.add_argument("--only", help="one case")


def _vectors(batch: int, dim: int):
    """Unit vectors of a student at a cosine of 0.9 to its teacher's."""
    random = np.random.default_rng(0)
    teacher = random.normal(size=(batch, dim))
    student = teacher + 0.5 * random.normal(size=(batch, dim))
    return [(x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in (student, teacher)]


def _arms(case: str, student: np.ndarray, teacher: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    """Every way to the gradient."""
    import torch

    from leafkit.ops import torch as fused

    s, t = torch.from_numpy(student).requires_grad_(), torch.from_numpy(teacher)
    widths = [width for width in PREFIXES if width <= student.shape[1]]
    ours = {
        "squared_l2": lambda exact: fused.alignment_loss(s, t),
        "cosine": lambda exact: fused.alignment_loss(s, t, "cosine"),
        "cosine at 5 prefixes": lambda exact: fused.alignment_loss(s, t, "cosine", prefixes=widths),
        "relational": lambda exact: fused.relational_loss(s, t, exact=exact),
        "listwise KL": lambda exact: fused.listwise_kl_loss(s, t, TEMPERATURE, exact=exact),
        "contrastive": lambda exact: fused.contrastive_loss(s, t, TEMPERATURE, exact=exact),
    }[case]
    eager = _eager(case)
    compiled = torch.compile(eager)

    def gradient(loss: Callable[[], torch.Tensor]) -> Callable[[], np.ndarray]:
        return lambda: torch.autograd.grad(loss(), s)[0].numpy()

    arms = {"leafkit": gradient(lambda: ours(False))}
    if case not in CASES[:3]:
        arms["leafkit, exact"] = gradient(lambda: ours(True))
        if len(student) > BLOCK:
            arms["torch, blocks of rows"] = lambda: _in_blocks(case, s, t)
    arms |= {"torch eager": gradient(lambda: eager(s, t)), "torch.compile": gradient(lambda: compiled(s, t))}

    def accumulated(loss: Callable) -> np.ndarray:  # a cached loss goes through the model again in its backward
        s.grad = None
        loss(s, t).backward()
        return s.grad.numpy()

    for name, loss in _sentence_transformers(case).items():
        arms[name] = lambda loss=loss: accumulated(loss)
    return arms


def _eager(case: str):
    import torch

    functional = torch.nn.functional

    def listwise(s, t):
        own = torch.eye(len(s), dtype=torch.bool)
        q, p = ((x @ x.T / TEMPERATURE).masked_fill(own, -1e9).log_softmax(1) for x in (s, t))
        return functional.kl_div(q, p, reduction="batchmean", log_target=True)

    def prefixes(s, t):
        widths = [width for width in PREFIXES if width <= s.shape[1]]
        return sum((1 - functional.cosine_similarity(s[:, :n], t[:, :n])).mean() for n in widths) / len(widths)

    return {
        "squared_l2": lambda s, t: ((s - t) ** 2).sum(1).mean(),
        "cosine": lambda s, t: (1 - functional.cosine_similarity(s, t)).mean(),
        "cosine at 5 prefixes": prefixes,
        "relational": lambda s, t: ((s @ s.T - t @ t.T) ** 2).mean(),
        "listwise KL": listwise,
        "contrastive": lambda s, t: functional.cross_entropy(s @ t.T / TEMPERATURE, torch.arange(len(s))),
    }[case]


def _in_blocks(case: str, s, t) -> np.ndarray:
    """Block by block of rows; each block's graph is gone before the next. The whole student takes part in each."""
    import torch

    functional = torch.nn.functional
    total = torch.zeros_like(s)
    for first in range(0, len(s), BLOCK):
        rows = torch.arange(first, min(first + BLOCK, len(s)))
        if case == "contrastive":
            loss = functional.cross_entropy(s[rows] @ t.T / TEMPERATURE, rows, reduction="sum") / len(s)
        elif case == "relational":
            loss = ((s[rows] @ s.T - t[rows] @ t.T) ** 2).sum() / len(s) ** 2
        else:
            own = rows[:, None] == torch.arange(len(s))
            q, p = ((x[rows] @ x.T / TEMPERATURE).masked_fill(own, -1e9).log_softmax(1) for x in (s, t))
            loss = functional.kl_div(q, p, reduction="sum", log_target=True) / len(s)
        total += torch.autograd.grad(loss, s)[0]
    return total.numpy()


def _sentence_transformers(case: str) -> dict[str, Callable]:
    """Its losses of vectors: the model hands on what it is given."""
    import torch
    from sentence_transformers.sentence_transformer import losses

    class Given(torch.nn.Sequential):
        def forward(self, features):
            return {"sentence_embedding": features["x"]}

    if case == "squared_l2":  # the mean over dims too: D times smaller
        loss = losses.MSELoss(Given(torch.nn.Identity()))
        return {"ST MSELoss": lambda s, t: loss([{"x": s}], t) * s.shape[1]}
    if case == "contrastive":
        plain = losses.MultipleNegativesRankingLoss(Given(torch.nn.Identity()), scale=1 / TEMPERATURE)
        cached = losses.CachedMultipleNegativesRankingLoss(
            Given(torch.nn.Identity()), scale=1 / TEMPERATURE, mini_batch_size=BLOCK
        )
        return {
            "ST MultipleNegativesRankingLoss": lambda s, t: plain([{"x": s}, {"x": t}], None),
            "ST Cached...RankingLoss": lambda s, t: cached([{"x": s}, {"x": t}], None),
        }
    return {}


def _truth(case: str, student: np.ndarray, teacher: np.ndarray) -> np.ndarray:
    """The gradient in float64."""
    import torch

    s, t = torch.from_numpy(student).double().requires_grad_(), torch.from_numpy(teacher).double()
    return torch.autograd.grad(_eager(case)(s, t), s)[0].numpy()


def _error(gradient: np.ndarray, truth: np.ndarray | None) -> float:
    return 0.0 if truth is None else float(np.linalg.norm(gradient - truth) / np.linalg.norm(truth))


def _memory(case: str, arm: str, batch: int, dim: int, threads: int) -> float:
    code = MEMORY.format(folder=str(Path(__file__).parent), of=(case, arm, batch, dim, threads))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def tell_memory(case: str, arm: str, batch: int, dim: int, threads: int) -> None:
    """Print what one call holds at the most above its inputs, in MiB, after a small call that loads what it needs."""
    import torch

    torch.set_num_threads(threads)
    small, large = _vectors(2 * BLOCK, dim), _vectors(batch, dim)
    _arms(case, *small)[arm]()
    call = _arms(case, *large)[arm]
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _status("VmRSS")
    call()
    print(json.dumps(round((_status("VmHWM") - before) / 1024, 1)))


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))


def _package(peer: str) -> str:
    return "sentence-transformers" if peer.startswith("ST") else "torch"


if __name__ == "__main__":
    main()
