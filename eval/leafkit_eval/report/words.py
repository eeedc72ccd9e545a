"""How the page writes numbers and names the modes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class _Words(dict[str, str]):
    """Words of the modes; a baseline is called by its name, or by what stands for all of them."""

    def __init__(self, words: dict[str, str], baseline: str) -> None:
        super().__init__(words)
        self._baseline = baseline

    def __missing__(self, mode: str) -> str:
        return self._baseline.format(name=mode.removeprefix("baseline-"))


MODE_WORDS = _Words(
    {
        "bm25": "BM25",
        "teacher": "Teacher",
        "symmetric": "Leaf, both sides",
        "asymmetric": "Leaf for queries",
    },
    "{name}",
)
MODE_NOTES = _Words(
    {
        "bm25": "words, no vectors",
        "teacher": "queries and documents by the teacher",
        "symmetric": "queries and documents by the leaf",
        "asymmetric": "queries by the leaf, documents by the teacher",
    },
    "queries and documents by {name}, in its own space",
)


def percent(value: float | None) -> str:
    """Write a share as per cent, one digit after the point."""
    return "–" if value is None else f"{100 * value:.1f}\u00a0%"


def figure(value: float | None) -> str:
    """Write a metric or cosine, three digits after the point."""
    return "–" if value is None else f"{value:.3f}"


def collections_words(summary: Mapping[str, Any]) -> str:
    """Say what a mean is over: averages over different numbers of collections do not compare."""
    number, parts = summary["collections"], summary["parts"]
    words = "1 collection" if number == 1 else f"{number} collections"
    return words if parts == number else f"{words} ({parts} with the parts of cqadupstack)"


def p_words(p: float) -> str:
    """Write a p value, three digits after the point."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def count(value: object) -> str:
    """Write a number for reading, thousands apart, fractions to three digits; leave other things as they are."""
    if value is None or isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else str(value)
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
