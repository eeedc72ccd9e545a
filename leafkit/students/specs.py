"""Student specs: what a user writes after ``--student``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from leafkit.errors import UnknownStudent

Spacing = Literal["first", "spaced"]
FORMS = "layers:N, layers:N:first, layers:N:spaced, static, or a model folder or hub name"


@dataclass(frozen=True)
class LayersSpec:
    """The base transformer cut to ``count`` layers: the first ones, or evenly spaced with the last among them."""

    count: int
    spacing: Spacing


@dataclass(frozen=True)
class StaticSpec:
    """A table of token vectors; a text is the mean of its tokens'."""


@dataclass(frozen=True)
class ModelSpec:
    """Any sentence-transformers or transformers model: a folder or hub name."""

    model: str


StudentSpec = LayersSpec | StaticSpec | ModelSpec


def parse_spec(text: str) -> StudentSpec:
    """Read a spec.

    Raises:
        UnknownStudent: it is of none of the forms; lists them.
    """
    word, *rest = text.split(":")
    if text == "static":
        return StaticSpec()
    if word == "layers":
        count, spacing = (rest[0] if rest else ""), (rest[1] if len(rest) > 1 else "first")
        if (
            not (count.isascii() and count.isdigit())
            or int(count) < 1
            or spacing not in get_args(Spacing)
            or len(rest) > 2
        ):
            raise UnknownStudent(f"student {text!r}: expected {FORMS}")
        return LayersSpec(int(count), "spaced" if spacing == "spaced" else "first")
    if not text or (":" in text and not Path(text).exists()):
        raise UnknownStudent(f"student {text!r}: expected {FORMS}")
    if not Path(text).exists() and (text.count("/") != 1 or text.startswith((".", "/"))):
        raise UnknownStudent(f"student {text!r}: no such folder, and no hub name (owner/model). Expected {FORMS}")
    return ModelSpec(text)


def kept_layers(spec: LayersSpec, available: int) -> list[int]:
    """Choose the layers to keep.

    Raises:
        UnknownStudent: more layers are asked for than there are.
    """
    if spec.count > available:
        raise UnknownStudent(f"student layers:{spec.count}: the base model has {available} layers")
    if spec.spacing == "first":
        return list(range(spec.count))
    return [round((number + 1) * available / spec.count) - 1 for number in range(spec.count)]
