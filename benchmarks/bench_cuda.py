"""Kernels on a GPU beside torch, and faiss-gpu where it is installed: times by CUDA events, ratios, shares of peaks.

Peaks are measured in the same run: a copy of 1 GiB for the memory, torch's product of 8,192 x 8,192 for the matrix
unit.
Quality is recall against a float64 ranking, or the error of the gradient against float64, relative to its length.
"""

import statistics
from collections.abc import Callable

import numpy as np
import torch
from form import arguments, finish, row

from leafkit.ops import cuda
from leafkit.ops.backend import describe_cuda

ROUNDS = 20
TEMPERATURE = 0.05


def main() -> None:
    options = arguments(__doc__)
    state = describe_cuda()
    if state.state != "ready":
        raise SystemExit(f"bench_cuda: {state.state}: {state.detail}")
    print(state.detail)
    bandwidth, peak = measured_peaks()
    print(
        f"memory {bandwidth / 1e9:.0f} GB/s (a copy), matrix unit {peak / 1e12:.0f} TFLOP/s (torch's bfloat16 product)"
    )
    rows = [*losses(512 if options.quick else 4096, bandwidth, peak)]
    documents = 50_000 if options.quick else 1_000_000
    for queries in (1, 32, 1024):
        rows += searches(queries, documents, bandwidth, peak)
    finish(rows, options)


def measured_peaks() -> tuple[float, float]:
    source = torch.empty(2**30, dtype=torch.uint8, device=cuda.DEVICE)
    target = torch.empty_like(source)
    side = torch.randn(8192, 8192, device=cuda.DEVICE, dtype=torch.bfloat16)
    seconds = medians({"copy": lambda: target.copy_(source), "product": lambda: side @ side})
    return 2 * source.numel() / seconds["copy"], 2 * 8192**3 / seconds["product"]


def medians(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Time the calls in turn after three warm-ups each; medians in seconds."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(3):
        for call in calls.values():
            call()
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            call()
            end.record()
            end.synchronize()
            times[name].append(start.elapsed_time(end) / 1e3)
    return {name: statistics.median(taken) for name, taken in times.items()}


def unit(*shape: int, seed: int) -> torch.Tensor:
    generator = torch.Generator(cuda.DEVICE).manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(*shape, device=cuda.DEVICE, generator=generator), dim=-1)


def losses(batch: int, bandwidth: float, peak: float) -> list[dict]:
    teacher = unit(batch, 768, seed=0)
    student = torch.nn.functional.normalize(teacher + 0.02 * torch.randn_like(teacher), dim=1)
    diagonal = torch.eye(batch, dtype=torch.bool, device=cuda.DEVICE)

    def eager(name: str, s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        if name == "cosine":
            return (1 - torch.nn.functional.cosine_similarity(s, t)).mean()
        if name == "relational":
            return (s @ s.T - t @ t.T).square().mean()
        if name == "contrastive":
            return torch.nn.functional.cross_entropy(s @ t.T / TEMPERATURE, torch.arange(len(s), device=cuda.DEVICE))
        ours, theirs = ((x @ x.T / TEMPERATURE).masked_fill(diagonal, -1e9).log_softmax(1) for x in (s, t))
        return torch.nn.functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)

    def gradient(name: str, s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        leaf = s.detach().requires_grad_()
        with torch.autocast(cuda.DEVICE, torch.bfloat16, enabled=s.dtype == torch.float32 and name != "cosine"):
            value = eager(name, leaf, t)
        (made,) = torch.autograd.grad(value, leaf)
        return made

    def ours(name: str) -> torch.Tensor:
        if name == "cosine":
            return cuda.alignment_loss(student, teacher, "cosine", [768], [1.0], None, False, 1.0)[1]
        return cuda.batch_loss(name, student, teacher, TEMPERATURE, False)[1]

    made = []
    products = {"relational": 3, "listwise_kl": 5, "contrastive": 3}
    for name in ("cosine", *products):
        exact = gradient(name, student.double(), teacher.double())
        seconds = medians({"ours": lambda n=name: ours(n), "torch": lambda n=name: gradient(n, student, teacher)})
        work = products[name] * 2 * batch**2 * 768 / peak if name in products else 3 * student.nbytes / bandwidth
        errors = [
            float((found - exact).norm() / exact.norm()) for found in (ours(name), gradient(name, student, teacher))
        ]
        made.append(
            row(
                f"{name}, {batch} x 768",
                "torch, bfloat16 products",
                "torch",
                1 / seconds["torch"],
                1 / seconds["ours"],
                "batches/s",
                quality=errors[0],
                peer_quality=errors[1],
                limit_share=work / seconds["ours"],
            )
        )
    return made


def searches(queries: int, documents: int, bandwidth: float, peak: float) -> list[dict]:
    asked, held = unit(queries, 768, seed=1), unit(documents, 768, seed=2)
    exact = torch.cat([(asked.double() @ part.double().T) for part in held.split(100_000)], dim=1).topk(10).indices
    halves = held.bfloat16()

    def torch_topk(side: torch.Tensor) -> torch.Tensor:
        return (asked.to(side.dtype) @ side.T).topk(10).indices

    made = []
    peers: dict[str, tuple[str, Callable[[], torch.Tensor]]] = {
        "float32": ("torch", lambda: torch_topk(held)),
        "bfloat16": ("torch", lambda: torch_topk(halves)),
    }
    flat = faiss_flat(held)
    for precision in ("float32", "bfloat16", "float16", "int8", "binary"):
        codes = cuda.pack_documents(held, precision)
        calls: dict[str, Callable[[], object]] = {"ours": lambda c=codes: cuda.search_topk(asked, c, 10)}
        name, peer = peers.get(precision, peers["bfloat16"])
        calls[name] = peer
        if flat is not None and precision == "float32":
            calls["faiss"] = lambda: flat.search(asked.cpu().numpy(), 10)
        seconds = medians(calls)
        bytes_read = (
            {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1, "binary": 1 / 8}[precision] * documents * 768
        )
        floor = max(
            bytes_read / bandwidth, 0 if precision in ("float32", "binary") else 2 * queries * documents * 768 / peak
        )
        for other in calls.keys() - {"ours"}:
            made.append(
                row(
                    f"search, {precision}, {queries} before {documents:,} x 768",
                    other,
                    "faiss-gpu" if other == "faiss" else "torch",
                    queries / seconds[other],
                    queries / seconds["ours"],
                    "queries/s",
                    quality=recall(cuda.search_topk(asked, codes, 10)[1], exact),
                    peer_quality=recall(peer(), exact),
                    limit_share=floor / seconds["ours"],
                )
            )
    return made


def faiss_flat(held: torch.Tensor):
    try:
        import faiss

        resources = faiss.StandardGpuResources()
    except (ImportError, AttributeError):
        return None
    index = faiss.GpuIndexFlatIP(resources, held.shape[1])
    index.add(held.cpu().numpy())
    return index


def recall(found: torch.Tensor, exact: torch.Tensor) -> float:
    pairs = zip(found.tolist(), exact.tolist(), strict=True)
    return float(np.mean([len({*a} & {*b}) / len(b) for a, b in pairs]))


if __name__ == "__main__":
    main()
