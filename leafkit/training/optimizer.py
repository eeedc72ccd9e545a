"""What moves the weights: AdamW with a rate for each part of the student, and a moving average of the weights."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from leafkit.students import projection_of
from leafkit.training.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

LAYER = re.compile(r"\.layers?\.(\d+)\.")
LARGEST_NORM = 1.0  # gradients are scaled down to it


def make_optimizer(model: SentenceTransformer, recipe: Recipe) -> torch.optim.Optimizer:
    """Make AdamW over the parameters that train; each group's rate at the peak is its ``peak``.

    The projection may move faster than the encoder, and each layer slower than the one above it. Vectors (biases,
    norms) do not decay.
    """
    import torch

    found = [LAYER.search(name) for name, _ in model.named_parameters()]
    depth = 1 + max((int(match[1]) for match in found if match), default=-1)
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    projection = projection_of(model)
    for place, module in enumerate(model):
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
            own = module is projection
            factor = recipe.projection_factor if own else _rate_factor(f"{place}.{name}", depth, recipe)
            groups.setdefault((factor, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "weight_decay": decay, "peak": recipe.learning_rate * factor}
            for (factor, decay), parameters in groups.items()
        ],
        lr=recipe.learning_rate,
        fused=True,
    )


def _rate_factor(name: str, depth: int, recipe: Recipe) -> float:
    found = LAYER.search(name)
    if found:
        return recipe.layer_decay ** (depth - 1 - int(found[1]))
    return recipe.layer_decay**depth if "embeddings." in name else 1.0


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set every group's rate to ``factor`` of its peak; give the first group's."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
    return float(optimizer.param_groups[0]["lr"])


def move(optimizer: torch.optim.Optimizer) -> float:
    """Take a step by the gradients there are, scaled down to a norm of 1 where they are longer; give their norm."""
    import torch

    trained = (parameter for group in optimizer.param_groups for parameter in group["params"])
    gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
    norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))))
    if not norm <= LARGEST_NORM:  # scaling by 1 would pass over all of them for nothing
        torch._foreach_mul_(gradients, LARGEST_NORM / (norm + 1e-6))
    optimizer.step()
    return norm


@contextlib.contextmanager
def drawn_to(model: torch.nn.Module, start: torch.nn.Module, share: float) -> Iterator[None]:
    """Put ``share`` of another model's weights into a model of the same shape while the context lasts."""
    import torch

    others = dict(start.named_parameters())
    own = dict(model.named_parameters())
    held = {name: parameter.detach().clone() for name, parameter in own.items()}
    try:
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.lerp_(others[name].to(parameter.device), share)
        yield
    finally:
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(held[name])


class MovingAverage:
    """An exponential moving average of a model's weights; with a decay of 0 it is the weights themselves."""

    def __init__(self, model: torch.nn.Module, decay: float) -> None:
        self._decay = decay
        self._own = [parameter for parameter in model.parameters() if parameter.requires_grad] if decay else []
        self.weights = [parameter.detach().clone() for parameter in self._own]

    def update(self, updates: int) -> None:
        """Take in the weights after a step; ``updates`` steps were taken in before.

        The first ones count more (1 - 10 / (10 + n)), or the start would stay in the average for long.
        """
        if self._own:
            import torch

            decay = min(self._decay, (1 + updates) / (10 + updates))
            torch._foreach_lerp_(self.weights, [parameter.detach() for parameter in self._own], 1 - decay)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the average into the model while the context lasts."""
        if not self._own:
            yield
            return
        trained = [parameter.detach().clone() for parameter in self._own]
        self._copy(self.weights)
        try:
            yield
        finally:
            self._copy(trained)

    def _copy(self, values: list[torch.Tensor]) -> None:
        import torch

        with torch.no_grad():
            for parameter, value in zip(self._own, values, strict=True):
                parameter.copy_(value)
