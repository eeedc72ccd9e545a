"""From a spec to a model: cut layers, a token table, or a given model, each with the ridge start of its projection."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leafkit.errors import ModelError, UsageError
from leafkit.progress import OnProgress, Progress, silent
from leafkit.space import EmbeddingSpace
from leafkit.students.folder import student_space
from leafkit.students.projection import Ridge, fit_ridge, projection_of, refit, table_of
from leafkit.students.specs import LayersSpec, StaticSpec, StudentSpec, kept_layers
from leafkit.teachers.sentence_transformers import (
    TOKENS_PER_BATCH,
    batches_by_length,
    cpu_has_bfloat16,
    load_model,
    token_counts,
)

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

TRAINED_SAMPLE = 4096  # texts that the projection of a leaf that is trained further is fitted on
SMOOTH = 1e-3  # a in a / (a + p), the weight of a token of frequency p (Arora et al. 2017, section 3)


def build_student(
    spec: StudentSpec,
    space: EmbeddingSpace,
    *,
    base: str | None,
    prompted: Sequence[str],
    targets: NDArray[np.float32],
    on_progress: OnProgress = silent,
) -> tuple[SentenceTransformer, float]:
    """Make a student that gives vectors of the space, as well as a linear map can before training.

    Args:
        spec: what to make.
        space: the teacher's.
        base: model to cut layers or token vectors from (the teacher, as a rule); not needed for a given model.
        prompted: n sample texts, prompts included, in random order.
        targets: (n, dim), the teacher's vectors of them.
        on_progress: told of the sample texts and tokens run through the base.

    Returns:
        The model and the mean cosine to the teacher that the linear start reaches on the tenth it was not fitted on.

    A leaf of the same space is taken with its encoder; its projection is fitted anew on the first 4,096 texts.

    Raises:
        UsageError: a base is needed and none was given.
        SpaceMismatch: the model is a leaf of another space.
        ModelError: the base or model cannot be used in that way.
    """
    if isinstance(spec, StaticSpec):
        return _static(space, _base(base, "static"), prompted, targets, on_progress)
    if isinstance(spec, LayersSpec):
        encoder = _cut(spec, _base(base, f"layers:{spec.count}"))
    elif (own := student_space(Path(spec.model))) is not None:
        return _trained_further(spec.model, own, space, prompted, targets, on_progress)
    else:
        encoder, _ = load_model(spec.model)
    encoder = _on_sphere(encoder, space)
    pooled = _run(encoder, prompted, on_progress)
    ridge = fit_ridge(pooled, targets)
    return _with_projection(encoder, ridge, space), ridge.cosine


def _trained_further(
    leaf: str,
    own: EmbeddingSpace,
    space: EmbeddingSpace,
    prompted: Sequence[str],
    targets: NDArray[np.float32],
    on_progress: OnProgress,
) -> tuple[SentenceTransformer, float]:
    from sentence_transformers import SentenceTransformer

    space.require_compatible(own, ours="the store", theirs=leaf)
    model, _ = load_model(leaf)
    prompted, targets = prompted[:TRAINED_SAMPLE], targets[:TRAINED_SAMPLE]
    projection, table = projection_of(model), table_of(model)
    if projection is None and table is None:
        given = _run(model, prompted, on_progress).astype(np.float64)
        norms = np.linalg.norm(given, axis=1) * np.linalg.norm(targets, axis=1)
        return model, float(np.mean((given * targets).sum(axis=1) / np.where(norms == 0, 1, norms)))
    under = [table] if projection is None else itertools.takewhile(lambda module: module is not projection, model)
    pooled = _run(SentenceTransformer(modules=list(under), device="cpu"), prompted, on_progress)
    return model, refit(model, pooled, targets)


def _base(base: str | None, wanted: str) -> str:
    if base is None:
        raise UsageError(
            f"student {wanted} is cut from a model, and the store does not name its teacher's: give --base"
        )
    return base


def _cut(spec: LayersSpec, base: str) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from torch import nn

    loaded, _ = load_model(base)
    transformer: Any = loaded[0]
    encoder = getattr(getattr(transformer, "auto_model", None), "encoder", None)
    layers = getattr(encoder, "layer", None)
    if encoder is None or not isinstance(layers, nn.ModuleList):
        raise ModelError(f"{base}: layers can be taken from BERT-like encoders (encoder.layer), this is another kind")
    encoder.layer = nn.ModuleList(layers[number] for number in kept_layers(spec, len(layers)))
    transformer.auto_model.config.num_hidden_layers = spec.count
    width = transformer.get_embedding_dimension()
    return SentenceTransformer(modules=[transformer, Pooling(width, pooling_mode="mean")], device="cpu")


def _on_sphere(encoder: SentenceTransformer, space: EmbeddingSpace) -> SentenceTransformer:
    """For a space of unit vectors the projection reads unit vectors too: the linear start comes closer, see decisions.

    Where the space's lengths mean something, the model's own last module decides.
    """
    from sentence_transformers import SentenceTransformer

    if not space.normalized or type(encoder[-1]).__name__ == "Normalize":
        return encoder
    return SentenceTransformer(modules=[*encoder, *_normalize(space)], device="cpu")


def _with_projection(encoder: SentenceTransformer, ridge: Ridge, space: EmbeddingSpace) -> SentenceTransformer:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense

    dense = Dense(ridge.weight.shape[1], space.dim, bias=True, activation_function=torch.nn.Identity())
    with torch.no_grad():
        dense.linear.weight.copy_(torch.from_numpy(ridge.weight))
        dense.linear.bias.copy_(torch.from_numpy(ridge.bias))
    return _finish(SentenceTransformer(modules=[*encoder, dense, *_normalize(space)], device="cpu"), space)


def _normalize(space: EmbeddingSpace) -> list[Any]:
    from sentence_transformers.base.modules import Normalize

    return [Normalize()] if space.normalized else []


def _finish(model: SentenceTransformer, space: EmbeddingSpace) -> SentenceTransformer:
    """Give the model the space's prompts, similarity and token limit, so that it needs no leafkit to use them."""
    model.prompts = {"query": space.prompts.query, "document": space.prompts.document}
    model.similarity_fn_name = space.similarity
    if space.max_tokens is not None and not np.isinf(model.max_seq_length or 0):
        model.max_seq_length = min(space.max_tokens, model.max_seq_length or space.max_tokens)
    return model.eval()


def _run(model: SentenceTransformer, texts: Sequence[str], on_progress: OnProgress) -> NDArray[np.float32]:
    """Pooled vectors of prompted texts, (n, d)."""
    from leafkit.teachers.forward import Forward

    limit = min(model.max_seq_length or 512, 1 << 20)
    lengths = [min(count, int(limit)) for count in token_counts(model, texts)]
    out: NDArray[np.float32] | None = None
    done = 0
    forward = Forward(model, bfloat16=cpu_has_bfloat16())  # as training will compute them
    for batch in batches_by_length(lengths, TOKENS_PER_BATCH):
        pooled = forward([texts[i] for i in batch]).numpy()
        out = np.empty((len(texts), pooled.shape[1]), np.float32) if out is None else out
        out[batch] = pooled
        done += len(batch)
        on_progress(Progress("start", done, len(texts), "student's vectors of the sample"))
    if out is None:
        raise UsageError("a student needs sample texts to start from, got none")
    return out


def _static(
    space: EmbeddingSpace,
    base: str,
    prompted: Sequence[str],
    targets: NDArray[np.float32],
    on_progress: OnProgress,
) -> tuple[SentenceTransformer, float]:
    """Token table from the base's vector of every token alone, weighted by rarity, then mapped by the ridge.

    A linear map of a mean is the mean of the mapped rows, so weight and bias go into the table itself.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    loaded, _ = load_model(base)
    tokenizer = _plain_tokenizer(loaded, base)
    table = _token_vectors(loaded, tokenizer.get_vocab_size(), on_progress)
    ids = [encoding.ids for encoding in tokenizer.encode_batch(list(prompted), add_special_tokens=False)]
    counts = np.bincount(np.concatenate([np.asarray(i, np.int64) for i in ids]), minlength=len(table)) + 1.0
    table *= (SMOOTH / (SMOOTH + counts / counts.sum()))[:, None]
    means = np.stack([table[i].mean(axis=0) if i else np.zeros(table.shape[1]) for i in ids])
    ridge = fit_ridge(means, targets)
    static = StaticEmbedding(tokenizer, embedding_weights=ridge(table).astype(np.float32))
    model = SentenceTransformer(modules=[static, *_normalize(space)], device="cpu")
    return _finish(model, space), ridge.cosine


def _plain_tokenizer(model: SentenceTransformer, base: str) -> Any:
    """A copy of the base's fast tokenizer without padding and truncation: a table has no limit."""
    from tokenizers import Tokenizer

    own = getattr(model.tokenizer, "backend_tokenizer", model.tokenizer)
    if not isinstance(own, Tokenizer):
        raise ModelError(f"{base}: a static student needs a fast tokenizer (tokenizer.json), this model has a slow one")
    copy = Tokenizer.from_str(own.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy


def _token_vectors(model: SentenceTransformer, size: int, on_progress: OnProgress) -> NDArray[np.float64]:
    """The base's pooled vector of each token alone, between its special tokens: (V, d)."""
    import torch

    if type(model[0]).__name__ == "StaticEmbedding":
        return np.asarray(model[0].embedding.weight.detach().numpy(), dtype=np.float64).copy()
    build = (
        model.tokenizer.build_inputs_with_special_tokens
        if hasattr(model.tokenizer, "build_inputs_with_special_tokens")
        else _wrapper(model)
    )
    rows, step = [], 1024
    with torch.inference_mode():
        for first in range(0, size, step):
            inputs = torch.tensor([build([token]) for token in range(first, min(first + step, size))])
            features = {"input_ids": inputs, "attention_mask": torch.ones_like(inputs)}
            rows.append(model(features)["sentence_embedding"].double().numpy())
            on_progress(Progress("start", min(first + step, size), size, "teacher's vectors of its tokens"))
    return np.concatenate(rows)


def _wrapper(model: SentenceTransformer) -> Any:
    """Special tokens before and after one token, read off what the tokenizer does to a word."""
    tokenizer = model.tokenizer
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    at = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
    before, after = whole[:at], whole[at + len(bare) :]
    return lambda tokens: [*before, *tokens, *after]
