"""HttpTeacher: a model behind an OpenAI-compatible address (POST /embeddings), known by its address and name alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from leafkit.errors import MissingExtra, ModelError, TeacherError
from leafkit.space import EmbeddingSpace, Kind, Prompts, TeacherId
from leafkit.teachers.protocol import checked_texts

if TYPE_CHECKING:
    from openai import OpenAI

KEY = "OPENAI_API_KEY"
TIMEOUT_S = 120.0  # of one request: 64 texts on a slow CPU
RETRIES = 5  # of a request that was refused for its rate, failed on the server or got no answer; waits grow
TOO_MUCH = (400, 413, 422)  # what servers answer where texts, or all of them together, are too long
PROBE = "leafkit"


class HttpTeacher:
    """A teacher behind an OpenAI-compatible embeddings endpoint, in a space of unit vectors.

    What it computes with cannot be seen: the space names the address and the model, and ``embed_texts`` compares one
    stored text before it adds others. Nobody knows either where the server cuts texts.

    Attributes:
        space: space of the vectors; ``max_tokens`` is None.
        fingerprint: of address and name, not of contents.
    """

    def __init__(self, client: OpenAI, space: EmbeddingSpace) -> None:
        self._client = client
        self.space = space
        self.fingerprint = f"teacher-{space.id}"

    def encode(self, texts: Sequence[str], kind: Kind) -> NDArray[np.float32]:
        """Ask for the vectors of texts in one request, the kind's prompt before each: float32, (n, dim).

        Raises:
            TeacherError: the server cannot be reached or refused, after retries where these may help, or its answer
                is not one vector a text; a text that it does not take is named.
            TypeError, ValueError: texts is a string, or kind is neither query nor document.
        """
        prompt = self.space.prompts.of(kind)
        prompted = [prompt + text for text in checked_texts(texts, kind)]
        vectors = _ask(self._client, self.space.teacher.name, prompted) if prompted else np.empty((0, self.space.dim))
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)


def is_address(model: object) -> bool:
    """Whether a model is given as ``URL#NAME``."""
    return str(model).startswith(("http://", "https://"))


def open_endpoint(address: str, *, prompts: Prompts | None = None) -> HttpTeacher:
    """Open ``URL#NAME`` as a teacher: ``http://localhost:8000/v1#BAAI/bge-m3``; one text is embedded at once.

    The key is the environment's ``OPENAI_API_KEY``; servers of one's own rarely ask for one.

    Args:
        address: where ``/embeddings`` lies, and the model's name there.
        prompts: what to put before texts of each kind; nothing if not given.

    Raises:
        ModelError: the address has no model's name, or holds a key.
        TeacherError: no vectors come from there.
        MissingExtra: the package ``openai`` is not installed.
    """
    url, _, name = address.partition("#")
    if not name:
        raise ModelError(f"{address}: names no model: write URL#NAME, as http://localhost:8000/v1#all-MiniLM-L6-v2")
    try:
        from openai import OpenAI  # 1 s
    except ImportError as exc:
        raise MissingExtra("openai", "http") from exc
    url = url.rstrip("/")
    try:
        parts = urlsplit(url)
        secret = parts.username or parts.password or parts.query
    except ValueError as exc:
        raise ModelError(f"{address}: is no address: {exc}") from exc
    if secret or not parts.hostname:
        raise ModelError(
            f"{parts.hostname or address}: expected an address alone: a key goes into {KEY}, not into reports"
        )
    key = os.environ.get(KEY, "").strip() or "none"
    client = OpenAI(base_url=url, api_key=key, max_retries=RETRIES, timeout=TIMEOUT_S)
    dim = _ask(client, name, [PROBE]).shape[1]
    space = EmbeddingSpace(
        teacher=TeacherId(name, url), dim=dim, normalized=True, prompts=prompts or Prompts(), origin="http"
    )
    return HttpTeacher(client, space)


def _ask(client: OpenAI, model: str, texts: list[str]) -> NDArray[np.float64]:
    """One request; what is refused is asked for in halves, down to the text that the server does not take."""
    from openai import APIStatusError, OpenAIError

    where = f"{model} at {str(client.base_url).rstrip('/')}"
    try:
        answer = client.embeddings.create(model=model, input=texts, encoding_format="float")
        data = sorted(answer.data, key=lambda entry: int(entry.index))
        places = [int(entry.index) for entry in data]
        vectors = np.array([entry.embedding for entry in data], dtype=np.float64)  # ragged rows are a ValueError
    except APIStatusError as exc:
        if exc.status_code not in TOO_MUCH:
            raise TeacherError(f"{where} gave no vectors: {_words(exc)}. {_advice(exc)}") from exc
        if len(texts) == 1:
            raise TeacherError(
                f"{where} does not take the text {texts[0][:60]!r} ({len(texts[0])} characters): {_words(exc)}"
            ) from exc
        half = len(texts) // 2
        return np.concatenate([_ask(client, model, texts[:half]), _ask(client, model, texts[half:])])
    except OpenAIError as exc:
        raise TeacherError(f"{where} gave no vectors: {_words(exc)}. {_advice(exc)}") from exc
    except (TypeError, ValueError, AttributeError) as exc:
        raise TeacherError(f"{where} gave no list of vectors: {_words(exc)}") from exc
    if vectors.ndim != 2 or len(vectors) != len(texts) or not vectors.size:
        raise TeacherError(f"{where} gave vectors of shape {vectors.shape} for {len(texts)} texts, expected one each")
    if places != list(range(len(texts))):
        raise TeacherError(f"{where} gave vectors for the texts {places[:5]}, expected each of {len(texts)} once")
    return vectors


def _advice(exc: Exception) -> str:
    from openai import APIConnectionError, AuthenticationError, NotFoundError

    if isinstance(exc, AuthenticationError):
        return f"Set {KEY} to a key that it takes"
    if isinstance(exc, NotFoundError):
        return "Check the address (it often ends in /v1) and the model's name"
    if isinstance(exc, APIConnectionError):
        return "Check the address, and that the server runs"
    return "What was stored before is kept: run the same command again"


def _words(exc: Exception) -> str:
    return " ".join(str(exc).split())[:300] or repr(exc)
