"""A student on disk: an ordinary sentence-transformers folder and leafkit.json beside it."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafkit.errors import CorruptData, ModelError
from leafkit.io.atomic import new_folder
from leafkit.rotation import FILE, Rotation
from leafkit.space import EmbeddingSpace
from leafkit.teachers.sentence_transformers import Precision, SentenceEncoder, content_hash, load_model, open_teacher

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

CARD = "leafkit.json"
VERSION = 1


def save_student(
    model: SentenceTransformer,
    space: EmbeddingSpace,
    folder: Path,
    *,
    recipe_hash: str | None = None,
    beside: tuple[Path, ...] = (),
) -> None:
    """Write a student's folder, whole or not at all; a folder that was there is replaced.

    Args:
        model: Transformer or StaticEmbedding, pooling, projection, normalisation.
        space: the teacher's.
        folder: where.
        recipe_hash: which recipe trained it.
        beside: files to copy into the folder (the recipe, the log).
    """
    with new_folder(folder) as scratch:
        write_student(model, space, scratch, recipe_hash=recipe_hash)
        for path in beside:
            shutil.copy(path, scratch / path.name)


def write_student(
    model: SentenceTransformer, space: EmbeddingSpace, folder: Path, *, recipe_hash: str | None = None
) -> None:
    """Write a student's files into a folder that its caller keeps unseen until it is whole."""
    model.save(str(folder), create_model_card=False)
    packages = ("leafkit", "sentence-transformers", "transformers", "torch")
    card = {
        "format": "leafkit.student",
        "version": VERSION,
        "space": space.to_json(),
        "content": content_hash(folder),
        "recipe_hash": recipe_hash,
        "versions": {name: version(name) for name in packages},
    }
    (folder / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def student_space(folder: Path) -> EmbeddingSpace | None:
    """Read the space from a student's leafkit.json; None for a folder without one.

    Raises:
        CorruptData: leafkit.json is not what ``save_student`` writes.
    """
    card = _card(folder)
    return None if card is None else EmbeddingSpace.from_json(card["space"], source=str(folder / CARD))


def student_rotation(folder: str | Path) -> Rotation | None:
    """Read the rotation that a leaf's space records, from the leaf's folder; None where its space is not turned.

    Raises:
        ModelError: the folder is no student.
        CorruptData: the rotation's file is missing or is another one.
    """
    space = student_space(Path(folder))
    if space is None:
        raise ModelError(f"{folder}: is no student: {CARD} is missing. Make one with `leafkit distill`")
    return None if space.rotation is None else Rotation.load(Path(folder) / FILE, space=space)


def _card(folder: Path) -> dict[str, Any] | None:
    path = folder / CARD
    if not path.is_file():
        return None
    try:
        card: Any = json.loads(path.read_bytes())
    except ValueError as exc:
        raise CorruptData(path, expected="JSON", found=f"something else ({exc})") from exc
    if not isinstance(card, dict) or card.get("format") != "leafkit.student" or card.get("version") != VERSION:
        raise CorruptData(path, expected=f"a leafkit.student of version {VERSION}", found=repr(card)[:80])
    if not isinstance(card.get("space"), dict) or not isinstance(card.get("content"), str):
        raise CorruptData(path, expected='fields "space" and "content"', found=", ".join(card))
    return card


def open_student(folder: str | Path, *, precision: Precision = "auto") -> SentenceEncoder:
    """Open a student as an encoder of its teacher's space.

    Raises:
        ModelError: the folder is no student (no leafkit.json), or cannot be loaded.
        CorruptData: its files are not those that leafkit.json was written with.
    """
    path = Path(folder)
    card = _card(path)
    if card is None:
        raise ModelError(f"{folder}: is no student: {CARD} is missing. Make one with `leafkit distill`")
    space, content = EmbeddingSpace.from_json(card["space"], source=str(path / CARD)), content_hash(path)
    if content != card["content"]:
        raise CorruptData(
            path,
            expected=f"the files of {card['content']}",
            found=content,
            hint="Weights, configuration or tokenizer were changed or lost: restore them, or distil again",
        )
    model, _ = load_model(path)
    return SentenceEncoder(model, space, "student-" + content.removeprefix("xxh3:"), precision)


def open_model(model: str | Path, *, precision: Precision = "auto") -> SentenceEncoder:
    """Open a model as what it is: a leaf in its teacher's space, any other in its own.

    Raises:
        ModelError, CorruptData: as ``open_student`` and ``open_teacher``.
    """
    if student_space(Path(model)) is not None:
        return open_student(model, precision=precision)
    return open_teacher(model, precision=precision)


def open_encoder(
    model: str | Path,
    space: EmbeddingSpace,
    *,
    whose: str,
    rotation: Rotation | None = None,
    precision: Precision = "auto",
) -> SentenceEncoder:
    """Open whatever encodes texts of a space: a leaf by its leafkit.json, else the teacher itself.

    A teacher is opened with the space's prompts and token limit, and turned by ``rotation`` (``student_rotation`` of
    the leaf whose space it is). ``whose`` space it is stands in the error.

    Raises:
        SpaceMismatch: the model's vectors are of another space.
    """
    if student_space(Path(model)) is not None:
        encoder = open_student(model, precision=precision)
    else:
        encoder = open_teacher(
            model, prompts=space.prompts, max_tokens=space.max_tokens, rotation=rotation, precision=precision
        )
    space.require_compatible(encoder.space, ours=whose, theirs=str(model))
    return encoder
