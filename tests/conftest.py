import os
from pathlib import Path

import pytest


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
