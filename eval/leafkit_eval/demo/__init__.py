"""What `leafkit demo` does: the whole road on the documentation of the Python packages on this machine."""

from leafkit_eval.demo.docstrings import DEFAULT_PACKAGES, Pair, Split, mine, present, split_pairs
from leafkit_eval.demo.road import DemoResult, packaged_teacher, run_demo

__all__ = [
    "DEFAULT_PACKAGES",
    "DemoResult",
    "Pair",
    "Split",
    "mine",
    "packaged_teacher",
    "present",
    "run_demo",
    "split_pairs",
]
