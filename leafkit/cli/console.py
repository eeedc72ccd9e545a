"""What a command shows: results on stdout, progress and warnings on stderr."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from leafkit.errors import MissingExtra, UsageError
from leafkit.progress import OnProgress, Progress

if TYPE_CHECKING:
    from leafkit.teachers import Teacher

LINE_EVERY_S = 10.0  # without a terminal, a bar becomes a line now and then


def say(message: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


def require_no_model(out: Path) -> None:
    """Refuse to write a report's files into a model's folder, whose contents are hashed.

    Raises:
        UsageError: it is one.
    """
    for name in ("leafkit.json", "modules.json", "config.json"):
        if (out / name).exists():
            raise UsageError(f"--out {out}: is a model's folder ({name} is in it): choose another")


def warn_of_prompts(encoder: Teacher) -> None:
    """Say that an encoder's card names prompts that its configuration lacks: its texts go in without."""
    if prompts := getattr(encoder, "unused_prompts", None):
        told = ", ".join(repr(prompt) for prompt in prompts)
        say(
            f"{encoder.space.teacher.name}: its card speaks of {told} before texts, its configuration has no prompts:"
            " texts go in without. If they should not, put them into config_sentence_transformers.json ("
            '"prompts": {"query": ..., "document": ...})'
        )


def tell(message: str) -> None:
    """Write a line to stdout: a result."""
    sys.stdout.write(message + "\n")
    sys.stdout.flush()


def tell_json(value: object) -> None:
    """Write a result for machines."""
    tell(json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False))


def require_packages(*names: str, extra: str) -> None:
    """Refuse before any work what an optional package will be needed for.

    Raises:
        MissingExtra: one of the modules is not installed; names it and the extra that brings it.
    """
    for name in names:
        if find_spec(name) is None:
            raise MissingExtra(name, extra)


@contextlib.contextmanager
def progress_bar() -> Iterator[OnProgress]:
    """Draw progress on stderr: a bar with the time left in a terminal, a line every ten seconds elsewhere."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks = {}

        def draw(progress: Progress) -> None:
            if progress.stage not in tasks:
                tasks[progress.stage] = bars.add_task(progress.stage, note="")
            bars.update(tasks[progress.stage], completed=progress.done, total=progress.total, note=progress.note)

        yield draw


def _lines() -> OnProgress:
    said: dict[str, float] = {}
    begun: dict[str, float] = {}
    done: dict[str, int] = {}

    def line(progress: Progress) -> None:
        now = time.monotonic()
        if progress.done < done.get(progress.stage, 0):  # the stage comes again, with another student
            begun.pop(progress.stage)
            said.pop(progress.stage, None)
        done[progress.stage] = progress.done
        start = begun.setdefault(progress.stage, now)
        finished = progress.done >= progress.total
        if not finished and now - said.get(progress.stage, start) < LINE_EVERY_S:
            return
        said[progress.stage] = now
        left = (now - start) * (progress.total - progress.done) / max(progress.done, 1)
        say(f"{progress.stage} {progress.done}/{progress.total}  {progress.note}  {left:.0f} s left")

    return line
