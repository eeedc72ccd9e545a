"""A run's log: lines of JSON, mirrored into TensorBoard where that is installed, and the curves read back."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leafkit.errors import CorruptData, InputError
from leafkit.io.atomic import storage_errors

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG, RECIPE, TENSORBOARD = "log.jsonl", "recipe.toml", "tensorboard"
CURVES = ("loss", "rate", "gradient_norm", "cosine", "ndcg_at_10_symmetric", "ndcg_at_10_asymmetric")


@dataclass(frozen=True)
class Curve:
    """A figure over a run: int64 steps and texts seen, float64 values, (n,) each, in the order of steps.

    A value that was not finite is NaN.
    """

    steps: NDArray[np.int64]
    texts: NDArray[np.int64]
    values: NDArray[np.float64]

    def means(self, ends: Sequence[float]) -> list[float | None]:
        """Give the mean of the finite values up to each number of texts and behind the one before; None without any."""
        return [float(part.mean()) if len(part) else None for part in self._parts(ends)]

    def lasts(self, ends: Sequence[float]) -> list[float | None]:
        """Give the last finite value up to each number of texts and behind the one before; None without any."""
        return [float(part[-1]) if len(part) else None for part in self._parts(ends)]

    def _parts(self, ends: Sequence[float]) -> list[NDArray[np.float64]]:
        stops = np.searchsorted(self.texts, ends, side="right").tolist()
        parts = [self.values[start:stop] for start, stop in zip([0, *stops[:-1]], stops, strict=True)]
        return [part[np.isfinite(part)] for part in parts]


@dataclass(frozen=True)
class RunLog:
    """What a run's folder tells of the run.

    Attributes:
        folder: ``OUT.run`` of a run that is not finished, or the finished leaf's.
        student: the spec in its recipe.
        steps, texts, seconds: how far it came.
        finished: it ended as it should.
        curves: by name; ``loss``, ``rate`` and ``gradient_norm`` have a value a step, ``cosine`` and
            ``ndcg_at_10_symmetric`` and ``_asymmetric`` one a gate. What was never logged is not there.
    """

    folder: Path
    student: str | None
    steps: int
    texts: int
    seconds: float
    finished: bool
    curves: dict[str, Curve]

    @classmethod
    def read(cls, folder: str | Path) -> RunLog:
        """Read a run's folder; the run may be going on.

        Of a step that was logged twice the later line counts; where a run was resumed, steps beyond the position it
        went on from are void. Half a line at the end, which a kill leaves, is passed over.

        Raises:
            InputError: there is no log in the folder.
            CorruptData: a line is no JSON object of a log, or the recipe no TOML; names file and line.
        """
        path = Path(folder) / LOG
        if not is_run(Path(folder)):
            raise InputError(f"holds no {LOG}: give the folder of a leaf, or OUT.run of an unfinished run", path=folder)
        points: dict[str, dict[int, tuple[int, float]]] = {name: {} for name in CURVES}
        steps, texts, seconds, event = 0, 0, 0.0, ""
        for place, record in _records(path) if path.is_file() else []:  # none while it starts
            event, steps, texts, seconds = _position(record, place)
            if event == "start":
                for of_step in points.values():
                    for void in [step for step in of_step if step > steps]:
                        del of_step[void]
                if steps:
                    continue  # its cosine is the start's, not that of the position it goes on from
            for name in CURVES:
                if name in record:
                    points[name][steps] = texts, _number(record, name, place)
        curves = {name: _curve(of_step) for name, of_step in points.items() if of_step}
        return cls(Path(folder), _student(Path(folder) / RECIPE), steps, texts, seconds, event == "end", curves)

    def to_json(self) -> dict[str, Any]:
        """Give the run as JSON values, every point of every curve; a value that was not finite is None."""
        curves = {
            name: {
                "steps": curve.steps.tolist(),
                "texts": curve.texts.tolist(),
                "values": [value if math.isfinite(value) else None for value in curve.values.tolist()],
            }
            for name, curve in self.curves.items()
        }
        return {**vars(self), "folder": str(self.folder), "curves": curves}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> RunLog:
        """Read what ``to_json`` gave."""
        curves = {
            name: Curve(
                np.array(curve["steps"], np.int64), np.array(curve["texts"], np.int64),
                np.array(curve["values"], np.float64),
            )
            for name, curve in value["curves"].items()
        }  # fmt: skip
        return cls(**{**value, "folder": Path(value["folder"]), "curves": curves})


def read_runs(folders: Sequence[str | Path]) -> list[RunLog]:
    """Read runs: each folder is a run's, or holds folders of runs. One that is named twice comes once.

    Raises:
        InputError: a folder is not there, or holds no run.
        CorruptData: as ``RunLog.read``.
    """
    found: dict[Path, Path] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise InputError("there is no such folder", path=folder)
        runs = [folder] if is_run(folder) else sorted(inside for inside in folder.iterdir() if is_run(inside))
        if not runs:
            raise InputError(f"holds no run: no {LOG} here or in the folders below", path=folder)
        for run in runs:
            found.setdefault(run.resolve(), run)
    return [RunLog.read(run) for run in found.values()]


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's: its recipe comes first, its log when the linear start is there."""
    return (folder / LOG).is_file() or (folder / RECIPE).is_file()


def _records(path: Path) -> list[tuple[str, dict[str, Any]]]:
    records = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            place = f"{path}:{number}"
            try:
                record = json.loads(line)
            except ValueError as exc:
                if not line.endswith(b"\n"):
                    break  # the last one, that a kill cut in two
                raise CorruptData(place, expected="a line of JSON", found=repr(line[:60])) from exc
            if not isinstance(record, dict):
                raise CorruptData(place, expected="a JSON object", found=repr(line[:60]))
            records.append((place, record))
    return records


def _position(record: dict[str, Any], place: str) -> tuple[str, int, int, float]:
    values = [record.get(name) for name in ("event", "step", "texts", "seconds")]
    event, step, texts, seconds = values
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in (step, texts))
    if not isinstance(event, str) or not whole or not isinstance(seconds, int | float):
        raise CorruptData(place, expected='"event", "step", "texts" and "seconds"', found=repr(record)[:80])
    return event, step, texts, float(seconds)  # type: ignore[return-value]  # just looked at


def _number(record: dict[str, Any], name: str, place: str) -> float:
    value = record[name]
    if value is None:
        return math.nan  # as Log.write has what is not finite
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CorruptData(place, expected=f'a number as "{name}"', found=repr(value)[:60])
    return float(value) if math.isfinite(value) else math.nan


def _curve(of_step: dict[int, tuple[int, float]]) -> Curve:
    steps = sorted(of_step)
    texts, values = zip(*(of_step[step] for step in steps), strict=True)
    return Curve(np.array(steps, np.int64), np.array(texts, np.int64), np.array(values, np.float64))


def _student(path: Path) -> str | None:
    """The spec alone: curves of a recipe that another version wrote can be read too."""
    try:
        student = tomllib.loads(path.read_text(encoding="utf-8")).get("student")
    except FileNotFoundError:
        return None
    except ValueError as exc:
        raise CorruptData(path, expected="TOML", found=str(exc)) from exc
    return None if student is None else str(student)


class Log:
    """The log of a run that is going on: owns TensorBoard's writer. Each line is in the file when ``write`` returns."""

    def __init__(self, path: Path, *, tensorboard: bool) -> None:
        self._path = path
        self._tensorboard = tensorboard
        self._writer: SummaryWriter | None = None

    def write(self, **fields: Any) -> None:
        """Append a line.

        Args:
            fields: JSON values, ``event``, ``step``, ``texts`` and ``seconds`` among them. Numbers that are not
                finite, which JSON does not have, are written as null. TensorBoard gets every number under its name,
                by step.

        Raises:
            StorageError: the disk refused.
        """
        told = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in fields.items()}
        line = json.dumps(told, ensure_ascii=False, allow_nan=False) + "\n"
        with storage_errors(self._path):
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line)
            if self._tensorboard:
                self._mirror(fields)

    def _mirror(self, fields: dict[str, Any]) -> None:
        step = fields["step"]
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # a second; needs the package tensorboard

            # a resumed run: TensorBoard forgets the steps beyond the position that it goes on from
            self._writer = SummaryWriter(str(self._path.with_name(TENSORBOARD)), purge_step=step + 1)
        for name, value in fields.items():
            if name != "step" and isinstance(value, int | float) and not isinstance(value, bool):
                self._writer.add_scalar(name, value, step)
        if fields["event"] != "step":
            self._writer.flush()

    def close(self) -> None:
        """Bring what TensorBoard's writer holds into its file."""
        if self._writer is not None:
            with storage_errors(self._path):
                self._writer.close()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_log(folder: str | Path) -> Log:
    """Open the log of a run's folder to append: ``log.jsonl``, and ``tensorboard/`` where that package is installed.

    Half a line that a kill left at the end is cut off, so that the file is whole JSON lines for every reader.

    Raises:
        StorageError: the disk refused.
    """
    path = Path(folder) / LOG
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            file.seek(0)
            whole = file.read().rfind(b"\n") + 1
            file.truncate(whole)
    return Log(path, tensorboard=find_spec("tensorboard") is not None)
