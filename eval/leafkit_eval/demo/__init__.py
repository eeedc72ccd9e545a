"""What `leafkit demo` judges on: the documentation of the Python packages on this machine."""

from leafkit_eval.demo.docstrings import DEFAULT_PACKAGES, Pair, Split, mine, present, split_pairs

__all__ = ["DEFAULT_PACKAGES", "Pair", "Split", "mine", "present", "split_pairs"]
