"""Recipe: everything that decides a run, validated before the first step, written as TOML into the run's folder."""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from leafkit.errors import RecipeError
from leafkit.space import KINDS, EmbeddingSpace, Kind

Preset = Literal["leaf", "fast", "static"]
PRESETS: dict[Preset, dict[str, Any]] = {
    # LEAF's own (arXiv 2509.12539). For millions of texts and hours.
    "leaf": {"epochs": 30.0, "whitened": False},
    # For tens of thousands of texts and minutes: one fall of a higher rate, the projection, which starts from a fit
    # and not from text, moving faster. docs/results.md has what each brought.
    "fast": {
        "minutes": 10.0, "cycles": 1, "learning_rate": 2e-4, "projection_factor": 3.0, "warmup": 0.02, "ranking": 0.4,
    },
    # Adam's larger steps: every row of a table sees few of them, and no layer amplifies them.
    "static": {
        "epochs": 4.0, "cycles": 1, "batch_size": 256, "learning_rate": 3e-3, "weight_decay": 0.0, "warmup": 0.02,
        "ranking": 0.4,
    },
}  # fmt: skip


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Source(_Table):
    """Part of the data mix.

    Attributes:
        store: folder of teacher vectors.
        weight: how often a text comes in an epoch: 2 is twice, 0.5 is every other epoch, in the mean.
        kinds: which of its texts.
    """

    store: str
    weight: float = Field(default=1.0, gt=0)
    kinds: tuple[Kind, ...] = Field(default=KINDS, min_length=1)


class Gates(_Table):
    """Checks during training.

    Attributes:
        every: steps between two; None for ten in a run.
        development: folder in BEIR layout whose nDCG@10 is followed; its documents are embedded once.
        split: whose judgements.
        tolerance: how far the held-out cosine may lie below the linear start before the run is stopped as broken.
    """

    every: int | None = Field(default=None, ge=1)
    development: str | None = None
    split: str = "test"
    tolerance: float = Field(default=0.05, ge=0)


class KindWeights(_Table):
    """What a text of each kind counts in the loss."""

    query: float = Field(default=1.0, ge=0)
    document: float = Field(default=1.0, ge=0)


class Recipe(_Table):
    """A training configuration; the defaults are LEAF's, but for ``whitened``.

    Attributes:
        student: a spec as ``leafkit distill --student`` takes it.
        base: model that layers or token vectors are cut from.
        data: stores to train on; a string stands for a store with weight 1 and both kinds.
        whitened: whether the student is written, and shown to the development collection, with its directions evened
            out (``leafkit.students.whitened``); in spaces of unit vectors only. None is yes there, where the student
            ends in a linear projection or is a token table.
        objective: loss between student and teacher vector of the same text (LEAF: squared L2).
        normalized: in a space of unit vectors compare unit vectors; false compares what the projection gives.
        ranking: weight of a second term: the student is to rank 512 of the teacher's documents, others each step, as
            the teacher does (512 of all texts, where the data has no documents); 0 for none (LEAF has none).
        prefixes: Matryoshka widths whose loss is taken beside the full width's, in the mean.
        kind_weights: weight of queries and of documents in the loss.
        start_share: share of the linear start in the weights that are written: 0.5 lies half-way between start and end
            (Wortsman et al., arXiv 2109.01903). For students that are good sentence encoders on their own; 0 for none.
        rotate: ``pca`` turns the space so that its first dims carry most: scores at full width stay as they are.
        epochs: passes over the data; None when ``minutes`` decides.
        minutes: wall-clock budget of the steps; the learning rate falls over it.
        cycles: how often the learning rate starts anew (LEAF: 3).
        batch_size: texts a step, of all processes together (LEAF: 32; smaller was better than larger).
        learning_rate: at the end of the warm-up; falls linearly to a tenth of it within each cycle.
        projection_factor: the projection's rate over the encoder's.
        layer_decay: a layer's rate over that of the layer above it; token vectors lie below the first.
        warmup: share of the run in which the rate rises.
        weight_decay: AdamW's, on matrices only.
        ema: decay a step of a moving average of the weights, which is what gates see and what is written; 0 for none.
        window: batches sorted by length together.
        held_out: rows kept for the cosine, never trained on.
        start_sample: rows the linear start is fitted on, at most.
        precision: of the products; ``auto`` is bfloat16 where the CPU has it.
        gates: checks during training.
        checkpoint_minutes: time between checkpoints.
        seed: of the order of rows.
    """

    student: str
    base: str | None = None
    data: tuple[Source, ...] = Field(default=(), validate_default=False)
    whitened: bool | None = None
    start_share: float = Field(default=0.0, ge=0, lt=1)
    objective: Literal["squared_l2", "l2", "cosine"] = "squared_l2"
    normalized: bool = True
    ranking: float = Field(default=0.0, ge=0)
    prefixes: tuple[int, ...] = ()
    kind_weights: KindWeights = KindWeights()
    rotate: Literal["pca"] | None = None
    epochs: float | None = Field(default=None, gt=0)
    minutes: float | None = Field(default=None, gt=0)
    cycles: int = Field(default=3, ge=1)
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    projection_factor: float = Field(default=1.0, gt=0)
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    warmup: float = Field(default=0.01, ge=0, lt=1)
    weight_decay: float = Field(default=0.01, ge=0)
    ema: float = Field(default=0.0, ge=0, lt=1)
    window: int = Field(default=50, ge=1)
    held_out: int = Field(default=512, ge=1)
    start_sample: int = Field(default=16384, ge=2)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    gates: Gates = Gates()
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _stores_by_name(cls, values: dict[str, Any]) -> dict[str, Any]:
        data = values.get("data", ())
        if isinstance(data, dict):
            raise ValueError("data is one table, expected a list of them: write [[data]]")
        if not isinstance(data, (str, Path, list, tuple)):
            raise ValueError(f"data is {data!r}, expected a list of stores")
        if isinstance(data, (str, Path)):
            raise ValueError(f"data is one path, expected a list of them: [{str(data)!r}]")
        named = [{"store": str(entry)} if isinstance(entry, (str, Path)) else entry for entry in data]
        return values | {"data": named}

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if (self.epochs is None) == (self.minutes is None):
            raise ValueError("give epochs or minutes, one of the two")
        if self.warmup >= 1 / self.cycles:
            raise ValueError(f"warmup {self.warmup} is no part of the first of {self.cycles} cycles")
        taken = sorted({kind for source in self.data for kind in source.kinds} or KINDS)
        if not any(getattr(self.kind_weights, kind) for kind in taken):
            raise ValueError(f"kind_weights are 0 for {' and '.join(taken)}: nothing would be learned")
        return self

    def whitens(self, space: EmbeddingSpace) -> bool:
        """Whether a student in the space is written with its directions evened out."""
        return space.normalized if self.whitened is None else self.whitened

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the weights that come out: all but where stores and the development collection lie."""
        values = self.model_dump(mode="json")
        for source in values["data"]:
            source.pop("store")
        if (development := self.gates.development) is not None:
            values["gates"]["development"] = Path(development).name  # scores on two collections do not compare
        values.pop("checkpoint_minutes")
        return values

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of the identity's canonical JSON."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:16]

    def to_toml(self) -> str:
        """Write the recipe as TOML; fields that are None are left out."""
        values = self.model_dump(mode="json", exclude_none=True)
        sources = values.pop("data")
        tables = {name: values.pop(name) for name in ("kind_weights", "gates")}
        lines = _entries(values)
        for name, table in tables.items():
            lines += ["", f"[{name}]", *_entries(table)]
        for source in sources:
            lines += ["", "[[data]]", *_entries(source)]
        return "\n".join(lines) + "\n"

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """Read a recipe's TOML; ``preset = "fast"`` in it stands for that preset's fields.

        Raises:
            RecipeError: not TOML, or a field that is unknown or out of its range.
        """
        values = read_fields(path)
        name = values.pop("preset", None)
        return make_recipe(values if name is None else with_preset(name, values), source=str(path))


def read_fields(path: str | Path) -> dict[str, Any]:
    """Read the fields of a recipe's TOML, ``preset`` beside them; nothing is checked yet.

    Raises:
        RecipeError: the file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise RecipeError(f"{path}: is no recipe: {exc}") from exc


def with_preset(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Put fields over a preset's; a length that is given (epochs or minutes) takes the place of the preset's.

    Raises:
        RecipeError: no such preset.
    """
    if not isinstance(name, str) or name not in PRESETS:
        raise RecipeError(f"there is no preset {name!r}: expected one of {', '.join(get_args(Preset))}")
    given = {key: value for key, value in fields.items() if value is not None}
    own = dict(PRESETS[name])
    if "epochs" in given or "minutes" in given:
        own.pop("epochs", None)
        own.pop("minutes", None)
    return own | given


def preset(student: str, name: str | None = None, **fields: Any) -> Recipe:
    """Give a preset's recipe with the fields that are given.

    Args:
        student: a spec.
        name: ``leaf``, ``fast`` or ``static``; ``static`` for a static student and ``leaf`` for others if not given.
        fields: of the recipe; None for those that the preset decides.

    Raises:
        RecipeError: an unknown field or preset, or a value out of its range.
    """
    chosen = name or ("static" if student == "static" else "leaf")
    return make_recipe({"student": student} | with_preset(chosen, fields))


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
            known = _fields_beside(first["loc"])
            near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"
            raise RecipeError(f"{source}: there is no field {name!r}{hint}") from exc
        if first["type"] == "missing":
            raise RecipeError(f"{source}: {name} is missing") from exc
        given = "" if isinstance(first["input"], dict) else f", got {first['input']!r}"
        raise RecipeError(f"{source}: {name + ': ' if name else ''}{first['msg']}{given}") from exc


def _fields_beside(place: tuple[int | str, ...]) -> list[str]:
    tables: dict[str, type[BaseModel]] = {"data": Source, "gates": Gates, "kind_weights": KindWeights}
    return list((tables[str(place[0])] if len(place) > 1 else Recipe).model_fields)


def _entries(values: dict[str, Any]) -> list[str]:
    return [f"{key} = {_toml(value)}" for key, value in values.items()]


def _toml(value: Any) -> str:
    """A value as TOML has it: JSON's form, but characters beyond 16 bits stand for themselves."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
