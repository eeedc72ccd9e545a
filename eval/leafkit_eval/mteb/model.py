"""MtebModel: an encoder, or a leaf before its teacher's documents, as mteb asks for one. Scores are mteb's own."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta, ScoringFunction
from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper
from mteb.types import PromptType
from numpy.typing import NDArray

from leafkit.index import Index
from leafkit.io.texts import is_blank
from leafkit.progress import OnProgress, silent
from leafkit.space import Kind
from leafkit.store import Row
from leafkit.teachers import SentenceEncoder, Teacher
from leafkit_eval.vectors import open_vectors

if TYPE_CHECKING:
    from datasets import Dataset

Side = Literal["model", "documents' encoder"]


class MtebModel(AbsEncoder):  # type: ignore[misc]  # mteb is not checked for types
    """An encoder with mteb's two interfaces: vectors for every task, and search by leafkit's index for retrieval.

    Queries get the query prompt, documents the document prompt. Texts of tasks without these two sides (pairs, classes,
    clusters) get none where one of the two prompts is empty, as mteb's own wrapper gives them none, else that of
    queries. Blank texts get a vector of zeros, and are never found.

    Args:
        encoder: embeds queries, and documents too where no other is given.
        meta: name, revision and the rest; ``describe_model`` makes it.
        cache: folder of the vectors, by what computes them: two checkpoints never share one.
        documents: another encoder of the same space for documents, the teacher as a rule.
        on_progress: told of texts embedded.

    Raises:
        SpaceMismatch: the two encoders are of two spaces.
    """

    def __init__(
        self,
        encoder: Teacher,
        meta: ModelMeta,
        cache: str | Path,
        *,
        documents: Teacher | None = None,
        on_progress: OnProgress = silent,
    ) -> None:
        if documents is not None:
            documents.space.require_compatible(encoder.space, ours="the documents' encoder", theirs="the model")
        sides: dict[str, Teacher] = {"model": encoder, "documents' encoder": documents or encoder}
        self._vectors = open_vectors(sides, Path(cache))
        self.mteb_model_meta = meta
        self._on_progress = on_progress
        self._index: Index | None = None
        self._remove_index: weakref.finalize[..., Any] | None = None
        prompts = encoder.space.prompts
        self._sideless: Kind = "document" if prompts.query and not prompts.document else "query"

    def encode(
        self, inputs: Any, *, task_metadata: Any, prompt_type: PromptType | None = None, **_: Any
    ) -> NDArray[np.float32]:
        """Give the vectors of mteb's batches: float32, (n, dim). Split and batch size, also given, do not matter."""
        texts = [text for batch in inputs for text in batch["text"]]
        if prompt_type == PromptType.document:
            return self._vectors_of(texts, "documents' encoder", "document", task_metadata)
        return self._vectors_of(texts, "model", "query" if prompt_type else self._sideless, task_metadata)

    def index(self, corpus: Dataset, *, task_metadata: Any, **_: Any) -> None:
        """Embed a corpus and build leafkit's index of it, in a folder that goes with the model."""
        ids, texts = [], []
        for row in cast(Iterable[Mapping[str, str]], corpus):
            text = f"{row.get('title') or ''} {row['text']}".strip()
            if not is_blank(text):
                ids.append(row["id"])
                texts.append(text)
        vectors = self._vectors_of(texts, "documents' encoder", "document", task_metadata)
        if self._remove_index is not None:
            self._remove_index()
        folder = Path(tempfile.mkdtemp(prefix="leafkit-mteb-"))
        self._remove_index = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._index = Index.create(folder / "index", self._vectors["documents' encoder"].space, ids, texts, vectors)

    def search(
        self,
        queries: Dataset,
        *,
        task_metadata: Any,
        top_k: int,
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        **_: Any,
    ) -> dict[str, dict[str, float]]:
        """Give query id to document id to score: the best of the index, or of those that the task names a query.

        Raises:
            RuntimeError: ``index`` was not called.
        """
        if self._index is None:
            raise RuntimeError("index(corpus) comes before search(queries)")
        texts = [f"{row['text']} {row.get('instruction') or ''}".strip() for row in queries]
        vectors = self._vectors_of(texts, "model", "query", task_metadata)
        if top_ranked is not None:
            return _ranked_again(self._index, list(queries["id"]), vectors, top_ranked, top_k)
        found = self._index.search(vectors, top_k)
        return {
            query: {self._index.ids[row]: float(score) for row, score in zip(rows, scores, strict=True)}
            for query, rows, scores in zip(queries["id"], found.rows, found.scores, strict=True)
        }

    @property
    def first_encoded(self) -> dict[Kind, str]:
        """The first text of each kind with the prompt before it, as it went into an encoder."""
        return {kind: text for side in self._vectors.values() for kind, text in side.first_encoded.items()}

    def embedding_report(self) -> dict[str, Any]:
        """Say what each encoder embedded, found and cut."""
        model, documents = self._vectors.values()
        if documents is model:
            return {"model": model.report()}
        return {side: vectors.report() for side, vectors in self._vectors.items()}

    def _vectors_of(self, texts: Sequence[str], side: Side, kind: Kind, task_metadata: Any) -> NDArray[np.float32]:
        vectors = self._vectors[side]
        out = np.zeros((len(texts), vectors.space.dim), dtype=np.float32)
        written = [place for place, text in enumerate(texts) if not is_blank(text)]
        if not written:
            return out
        rows = [Row(texts[place], kind, str(place)) for place in written]
        vectors.embed(rows, task_metadata.name, self._on_progress)
        out[written] = vectors.of([row.text for row in rows], kind)
        return out


def _ranked_again(
    index: Index,
    queries: Sequence[str],
    vectors: NDArray[np.float32],
    top_ranked: Mapping[str, Sequence[str]],
    top_k: int,
) -> dict[str, dict[str, float]]:
    """Score the documents that are named for each query."""
    row_of = {name: row for row, name in enumerate(index.ids)}
    out: dict[str, dict[str, float]] = {}
    for query, vector in zip(queries, vectors, strict=True):
        names = [name for name in top_ranked.get(query, ()) if name in row_of]
        scores = index.vectors[[row_of[name] for name in names]] @ vector
        best = np.argsort(-scores, kind="stable")[:top_k]
        out[query] = {names[place]: float(scores[place]) for place in best}
    return out


def describe_model(
    encoder: SentenceEncoder, name: str, *, documents: SentenceEncoder | None = None, reference: str | None = None
) -> ModelMeta:
    """Say of an encoder what mteb records beside its scores.

    Args:
        encoder: embeds queries.
        name: ``organisation/model``; results lie in a folder of that name.
        documents: embeds documents where that is another one.
        reference: the model's page.

    Returns:
        Meta whose revision names the contents of both encoders: results of another checkpoint never pass for these.
    """
    space = encoder.space
    model = encoder.model
    parameters = sum(parameter.numel() for parameter in model.parameters())
    first: Any = model[0]
    table = first.embedding if hasattr(first, "embedding") else first.auto_model.get_input_embeddings()
    prompts = {"query": space.prompts.query, "document": space.prompts.document}
    return ModelMeta(
        loader=None if documents is not None else SentenceTransformerEncoderWrapper,
        loader_kwargs={"model_prompts": prompts} if documents is None and any(prompts.values()) else {},
        name=name,
        revision=revision_of(encoder, documents),
        release_date=None,
        languages=None,
        n_parameters=parameters,
        n_embedding_parameters=table.weight.numel(),
        memory_usage_mb=round(4 * parameters / 2**20),
        max_tokens=encoder.max_tokens,
        embed_dim=space.dim,
        license=None,
        open_weights=True,
        public_training_code=None,
        public_training_data=None,
        framework=["Sentence Transformers", "PyTorch"],
        reference=reference,
        similarity_fn_name=ScoringFunction.COSINE if space.similarity == "cosine" else ScoringFunction.DOT_PRODUCT,
        use_instructions=bool(space.prompts.query or space.prompts.document),
        training_datasets=None,
        adapted_from=space.teacher.name,
    )


def revision_of(encoder: Teacher, documents: Teacher | None = None) -> str:
    """Name the contents of a model, and of the encoder of its documents where that is another one."""
    own = encoder.fingerprint
    return own if documents is None or documents.fingerprint == own else f"{own}-{documents.fingerprint}"
