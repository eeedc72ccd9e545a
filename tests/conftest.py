import os
from pathlib import Path

import pytest

from tests import tiny


def _folder(variable, what):
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set: {what}")
    return Path(value)


@pytest.fixture
def cases():
    return _folder("LEAFKIT_CASES", "no cases from the field")


@pytest.fixture
def data():
    return _folder("LEAFKIT_DATA", "no real collections")


@pytest.fixture
def models():
    return _folder("LEAFKIT_MODELS", "no real models")


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory):
    """A tiny teacher whose vectors are of unit length."""
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed (extra: train)")
    return tiny.save_teacher(tmp_path_factory.mktemp("models") / "tiny-teacher")


@pytest.fixture(scope="session")
def store(teacher_folder, tmp_path_factory):
    """300 texts with the tiny teacher's vectors."""
    from leafkit.store import EmbeddingStore, embed_texts
    from leafkit.teachers import open_teacher

    teacher = open_teacher(teacher_folder)
    folder = tmp_path_factory.mktemp("stores") / "texts.store"
    opened = EmbeddingStore.create(folder, teacher.space, model=str(teacher_folder))
    embed_texts(teacher, tiny.texts(300), opened)
    return folder
