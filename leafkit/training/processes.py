"""One run in many processes: who this one is, what all agree on, and gradients that are the whole batch's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from leafkit.errors import RecipeError, TrainingStopped

if TYPE_CHECKING:
    import torch

WAIT = timedelta(minutes=30)  # for a gate on a development collection; a process that dies is noticed at once


class Processes:
    """The processes of a launcher (``accelerate launch``, ``torchrun``), or this one alone.

    Attributes:
        count: how many.
        rank: which this is.
        first: whether this one writes.
        device: where this one computes.
    """

    def __init__(self, batch_size: int) -> None:
        import torch
        from accelerate import Accelerator
        from accelerate.utils import InitProcessGroupKwargs

        # Said outright: without it accelerate takes the processes of torchrun on a CPU for strangers to each other.
        on_cpu = not torch.cuda.is_available()
        self._accelerator = Accelerator(cpu=on_cpu, kwargs_handlers=[InitProcessGroupKwargs(timeout=WAIT)])
        self.count: int = self._accelerator.num_processes
        self.rank: int = self._accelerator.process_index
        self.first = self.rank == 0
        self.device: torch.device = self._accelerator.device
        if batch_size < self.count:
            raise RecipeError(
                f"batch_size {batch_size} is of all {self.count} processes together: expected at least {self.count}"
            )

    def wrap(self, module: torch.nn.Module) -> torch.nn.Module:
        """Let the gradients of a module be the mean over all processes; weights become the first one's."""
        return self._accelerator.prepare(module) if self.count > 1 else module

    def share(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], float]:
        """Give this process's rows of a batch, and the factor that makes the mean over processes the batch's mean.

        A process that gets none computes the batch's first row and counts it as nothing.
        """
        own = rows[self.rank :: self.count]
        if not len(own):
            return rows[:1], 0.0
        return own, self.count * len(own) / len(rows)

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.count > 1:
            self._accelerator.wait_for_everyone()

    def largest(self, *values: float) -> tuple[float, ...]:
        """Give the largest that any process has of each value, so that all decide alike."""
        if self.count == 1:
            return values
        import torch

        given = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(given, torch.distributed.ReduceOp.MAX)
        return tuple(given.tolist())

    def mean(self, value: torch.Tensor) -> float:
        """Give the mean over processes of a scalar."""
        return float(self._accelerator.reduce(value.detach(), "mean")) if self.count > 1 else float(value.detach())

    @contextlib.contextmanager
    def peers_needed(self) -> Iterator[None]:
        """Turn what torch says when another process is gone into a ``TrainingStopped`` that says what to do."""
        try:
            yield
        except RuntimeError as exc:  # gloo's and NCCL's own
            words = str(exc).lower()
            if self.count > 1 and any(word in words for word in ("gloo", "nccl", "connection", "timed out")):
                first_line = str(exc).splitlines()[0]
                raise TrainingStopped(
                    f"process {self.rank} of {self.count} lost the others ({first_line}). Run the same command again to"
                    " go on from the last checkpoint"
                ) from exc
            raise

    def end(self) -> None:
        """Leave the group: a process that ends with it open makes torch warn."""
        if self.count > 1:
            self._accelerator.end_training()
