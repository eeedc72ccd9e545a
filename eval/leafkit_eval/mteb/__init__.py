"""MTEB: a leaf as an mteb model, local folders as mteb tasks, results in mteb's own layout."""

from leafkit_eval.mteb.collections import hub_collections, task_collection
from leafkit_eval.mteb.model import MtebModel, describe_model
from leafkit_eval.mteb.run import TaskOutcome, named_tasks, require_own, run_mteb, write_model_meta, write_summary
from leafkit_eval.mteb.tasks import local_task

__all__ = [
    "MtebModel",
    "TaskOutcome",
    "describe_model",
    "hub_collections",
    "local_task",
    "named_tasks",
    "require_own",
    "run_mteb",
    "task_collection",
    "write_model_meta",
    "write_summary",
]
