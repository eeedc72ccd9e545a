"""Running mteb: each task's score kept when it is there, failures told apart, nothing of another checkpoint taken."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mteb
from mteb.abstasks import AbsTask
from mteb.results import TaskResult

from leafkit.errors import UsageError
from leafkit.io.atomic import write_file
from leafkit.teachers import Teacher
from leafkit_eval.mteb.model import MtebModel, revision_of

FORMAT = "leafkit.mteb"


@dataclass(frozen=True)
class TaskOutcome:
    """A task's result: mteb's own, or why there is none."""

    name: str
    type: str
    metric: str
    split: str
    result: TaskResult | None
    failure: str | None = None

    @property
    def score(self) -> float | None:
        """The main score, from 0 to 1."""
        return None if self.result is None else float(self.result.get_score(splits=[self.split]))


def named_tasks(names: Sequence[str] = (), *, benchmark: str | None = None) -> list[AbsTask]:
    """Give tasks of mteb by their names, or those of a benchmark.

    Raises:
        UsageError: mteb knows no such task or benchmark.
    """
    try:
        if benchmark is not None:
            return list(mteb.get_benchmark(benchmark).tasks)
        return list(mteb.get_tasks(tasks=list(names))) if names else []
    except (KeyError, ValueError) as exc:
        raise UsageError(f"mteb: {str(exc.args[0]).splitlines()[0]}") from exc


def run_mteb(model: MtebModel, tasks: Sequence[AbsTask], out: str | Path) -> list[TaskOutcome]:
    """Evaluate a model on tasks by mteb's own evaluators; results lie in mteb's layout under ``out/results``.

    A task whose result is there already, of this model's revision and this revision of the data, is not run again.
    One that fails, for example because it needs the network, does not keep the others from running.
    """
    cache = mteb.ResultCache(out)
    outcomes = []
    for task in tasks:
        kept = _kept(cache, task, model)
        same_data = kept is not None and kept.dataset_revision == task.metadata.revision
        outcomes.append(_outcome(model, task, cache, "only-missing" if same_data else "always"))
    return outcomes


def _kept(cache: Any, task: AbsTask, model: MtebModel) -> TaskResult | None:
    """The result that is there, None where there is none, or a file that cannot be read."""
    try:
        found: TaskResult | None = cache.load_task_result(task.metadata.name, model.mteb_model_meta)
    except Exception:  # noqa: BLE001  # cut off, or written by something else: mteb raises what it happens to meet
        cache.get_task_result_path(task.metadata.name, model.mteb_model_meta).unlink(missing_ok=True)
        return None
    return found


def require_own(out: str | Path, encoder: Teacher, documents: Teacher | None = None) -> None:
    """Refuse a folder whose summary is of another model.

    Raises:
        UsageError: it is.
    """
    there = _kept_summary(Path(out))
    if there and there["revision"] != revision_of(encoder, documents):
        raise UsageError(
            f"{Path(out) / 'mteb.json'} is of {there['model']} at {there['revision']}: choose another --out"
        )


def _kept_summary(out: Path) -> dict[str, Any] | None:
    try:
        value: Any = json.loads((out / "mteb.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return None  # none, or nothing that anyone could read
    tasks = value.get("tasks") if isinstance(value, dict) and value.get("format") == FORMAT else None
    fields = {"name", "type", "metric", "split", "score", "failure"}
    sound = isinstance(tasks, list) and all(isinstance(task, dict) and fields <= set(task) for task in tasks)
    return value if sound and {"model", "revision"} <= set(value) else None


def write_summary(
    model: MtebModel, outcomes: Sequence[TaskOutcome], out: str | Path, *, command: str | None = None
) -> dict[str, Any]:
    """Write ``out/mteb.json``: every score, why one is missing, and the mean of each type, named by its count.

    Tasks that an earlier run of the same model scored there stay.
    """
    meta = model.mteb_model_meta
    tasks: list[dict[str, Any]] = [
        {
            "name": outcome.name,
            "type": outcome.type,
            "metric": outcome.metric,
            "split": outcome.split,
            "score": outcome.score,
            "failure": outcome.failure,
        }
        for outcome in outcomes
    ]
    before = _kept_summary(Path(out))
    if before and before["revision"] == meta.revision:
        own = {(task["name"], task["split"]) for task in tasks}
        kept = [task for task in before["tasks"] if (task["name"], task["split"]) not in own]
        tasks = [task for task in kept if task["score"] is not None] + tasks
    of_type: dict[str, list[float]] = {}
    for task in tasks:
        if task["score"] is not None:
            of_type.setdefault(task["type"], []).append(task["score"])
    summary = {
        "format": FORMAT,
        "version": 1,
        "model": meta.name,
        "revision": meta.revision,
        "tasks": tasks,
        "means": {kind: {"tasks": len(scores), "score": sum(scores) / len(scores)} for kind, scores in of_type.items()},
        "first_encoded": model.first_encoded,
        "embedding": model.embedding_report(),
        "command": command,
        "mteb": version("mteb"),
    }
    write_file(Path(out) / "mteb.json", (json.dumps(summary, ensure_ascii=False, indent=1) + "\n").encode())
    return summary


META_IMPORTS = """\
from mteb.models.model_meta import ModelMeta, ScoringFunction
from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper
"""


def write_model_meta(model: MtebModel, out: str | Path) -> Path:
    """Write ``out/model_meta.py`` once: the model as mteb's repository wants it, made sure to say the same when run.

    What only its owner knows (release date, licence, languages, training data) is None there, to be filled in; so is
    the loader of a model with two encoders, for mteb's own has one.
    """
    meta: Any = model.mteb_model_meta
    code = f"{META_IMPORTS}\nmodel_meta = {meta.to_python()}\n"
    names: dict[str, Any] = {}
    exec(code, names)
    if names["model_meta"].to_dict() != meta.to_dict():
        raise AssertionError(f"mteb reads another model from the code than {meta.name}")
    path = Path(out) / "model_meta.py"
    if not path.exists():  # its owner may have filled it in
        write_file(path, code.encode())
    return path


def _outcome(model: MtebModel, task: AbsTask, cache: Any, strategy: str) -> TaskOutcome:
    named = (task.metadata.name, task.metadata.type, task.metadata.main_score, task.metadata.eval_splits[0])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # mteb's and sklearn's: of a task's form, not of the model
            mteb.evaluate(
                model, [task], cache=cache, overwrite_strategy=strategy, co2_tracker=False, show_progress_bar=False,
            )  # fmt: skip
    except Exception as exc:  # noqa: BLE001  # a task of mteb's may fail in any way: offline, gated, broken
        reason = (str(exc).strip() or repr(exc)).splitlines()[0]
        return TaskOutcome(*named, None, f"{type(exc).__name__}: {reason}")
    outcome = TaskOutcome(
        *named, cache.load_task_result(named[0], model.mteb_model_meta)
    )  # rounded, as found next time
    if outcome.score is None or math.isfinite(outcome.score):
        return outcome
    return TaskOutcome(*named, None, f"its {named[2]} is {outcome.score}: all texts may be alike to the model")
