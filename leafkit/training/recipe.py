"""Recipe: everything that decides a run, validated before the first step, written as TOML into the run's folder."""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from leafkit.errors import RecipeError


class Recipe(BaseModel):
    """A training configuration.

    Attributes:
        student: a spec as ``leafkit distill --student`` takes it.
        base: model that layers or token vectors are cut from.
        objective: loss between student and teacher vector of the same text (LEAF: squared L2).
        epochs: passes over the data; None when ``minutes`` decides.
        minutes: wall-clock budget of the steps; the learning rate falls over it.
        batch_size: texts a step (LEAF: 32; smaller was better than larger).
        learning_rate: at the end of the warm-up; falls linearly to a tenth of it.
        projection_factor: the projection's rate over the encoder's.
        warmup: share of the run in which the rate rises.
        weight_decay: AdamW's, on matrices only.
        window: batches sorted by length together.
        held_out: rows kept for the cosine, never trained on.
        start_sample: rows the linear start is fitted on, at most.
        checkpoint_minutes: time between checkpoints.
        seed: of the order of rows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    student: str
    base: str | None = None
    objective: Literal["squared_l2", "l2", "cosine"] = "squared_l2"
    epochs: float | None = Field(default=None, gt=0)
    minutes: float | None = Field(default=None, gt=0)
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=2e-4, gt=0)
    projection_factor: float = Field(default=3.0, gt=0)
    warmup: float = Field(default=0.02, ge=0, lt=1)
    weight_decay: float = Field(default=0.01, ge=0)
    window: int = Field(default=50, ge=1)
    held_out: int = Field(default=512, ge=1)
    start_sample: int = Field(default=16384, ge=2)
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _one_length(self) -> Recipe:
        if (self.epochs is None) == (self.minutes is None):
            raise ValueError("give epochs or minutes, one of the two")
        return self

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of the recipe's canonical JSON."""
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).hexdigest()[:16]

    def to_toml(self) -> str:
        """Write the recipe as TOML; fields that are None are left out."""
        return "".join(f"{key} = {_toml(value)}\n" for key, value in self.model_dump().items() if value is not None)

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Read a recipe's TOML.

        Raises:
            RecipeError: not TOML, or a field that is unknown or out of its range.
        """
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as exc:
            raise RecipeError(f"{path}: is no recipe: {exc}") from exc
        return make_recipe(values, source=str(path))


def _toml(value: str | float) -> str:
    """A string or number as TOML has it: JSON's form, but characters beyond 16 bits stand for themselves."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def make_recipe(values: dict[str, Any], *, source: str = "recipe") -> Recipe:
    """Validate the fields of a recipe.

    Raises:
        RecipeError: an unknown field (the nearest name is given) or a value out of its range.
    """
    try:
        return Recipe(**values)
    except ValidationError as exc:
        first = exc.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(name, Recipe.model_fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise RecipeError(f"{source}: there is no field {name!r}{hint}") from exc
        raise RecipeError(f"{source}: {name + ': ' if name else ''}{first['msg']}, got {first['input']!r}") from exc


def preset(student: str, **fields: Any) -> Recipe:
    """Give the recipe for a student spec, with the fields that are given.

    A static table trains with Adam's larger steps: every row sees few of them, and no layer amplifies them.
    """
    own: dict[str, Any] = {"student": student}
    if student == "static":
        own |= {"batch_size": 256, "learning_rate": 3e-3, "projection_factor": 1.0, "weight_decay": 0.0}
    return make_recipe(own | {key: value for key, value in fields.items() if value is not None})
