"""CallableTeacher: any function from texts to vectors, in a space that its owner describes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leafkit.errors import TeacherError
from leafkit.space import EmbeddingSpace, Kind
from leafkit.teachers.protocol import checked_texts


class CallableTeacher:
    """A teacher made of a function.

    Args:
        function: takes the texts, prompt included, and gives (n, dim) numbers.
        space: what the function's vectors are; name and revision are the owner's word.
    """

    def __init__(self, function: Callable[[list[str]], Any], space: EmbeddingSpace) -> None:
        self._function = function
        self.space = space
        self.fingerprint = f"teacher-{space.id}"

    def encode(self, texts: Sequence[str], kind: Kind) -> NDArray[np.float32]:
        """Call the function once with the kind's prompt before every text.

        Raises:
            TeacherError: the function raised; its error is the cause.
        """
        prompt = self.space.prompts.of(kind)
        texts = checked_texts(texts, kind)
        try:
            return np.asarray(self._function([prompt + text for text in texts]), dtype=np.float32)
        except Exception as exc:
            raise TeacherError(f"the teacher's function failed on {len(texts)} texts: {exc!r}") from exc
