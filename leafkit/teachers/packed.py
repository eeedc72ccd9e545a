"""A BERT run on packed texts, forward and backward: no padding, fused kernels between torch's matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from leafkit.ops import encoder as ops
from leafkit.ops.backend import describe

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

WIDTH_STEP, MOST_HEAD_DIM, MOST_WIDTH = 16, 256, 8192  # what the kernels take
SIZES = 16  # row counts between one power of two and the next: torch prepares each size of product once
LEAST_ROWS = 32


class Embeddings(NamedTuple):
    """Parameters under the layers, in the order in which they are handed to autograd."""

    word: torch.Tensor
    position: torch.Tensor
    token_type: torch.Tensor
    scale: torch.Tensor
    shift: torch.Tensor


class Layer(NamedTuple):
    """Parameters of one layer, in that order: attention, its output and norm, the wide layer, its output and norm."""

    query: torch.Tensor
    query_bias: torch.Tensor
    key: torch.Tensor
    key_bias: torch.Tensor
    value: torch.Tensor
    value_bias: torch.Tensor
    out: torch.Tensor
    out_bias: torch.Tensor
    out_scale: torch.Tensor
    out_shift: torch.Tensor
    wide: torch.Tensor
    wide_bias: torch.Tensor
    narrow: torch.Tensor
    narrow_bias: torch.Tensor
    narrow_scale: torch.Tensor
    narrow_shift: torch.Tensor


@dataclass(frozen=True)
class Shape:
    """What the parameters do not say."""

    heads: int
    epsilon: float
    padding: int  # the token whose embedding is not trained; -1: none
    mean: bool  # pool the mean of a text's rows, or its first one


class PackedEncoder:
    """A student as a function of token ids; made by ``packed_encoder``. Parameters are the student's own.

    Args:
        model: the student.
        embeddings: its parameters.
        layers: its parameters.
        shape: the rest of it.
        bfloat16: what rows and matrix products are; sums, norms and parameters are float32.
        frozen: the layers' matrices are brought into that form once, and no gradient reaches them.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        embeddings: Embeddings,
        layers: Sequence[Layer],
        shape: Shape,
        *,
        bfloat16: bool,
        frozen: bool,
    ) -> None:
        self._rest = list(model)[2:]
        self._embeddings, self._layers = embeddings, layers
        self._parameters = [*embeddings, *(parameter for layer in layers for parameter in layer)]
        self._shape = shape
        self._dtype = torch.bfloat16 if bfloat16 else torch.float32
        self._most = len(embeddings.position)
        self._frozen: list[_Weights] | None = None
        if frozen:
            with torch.no_grad():
                self._frozen = [_Weights.of(layer, self._dtype) for layer in layers]

    def __call__(self, texts: Sequence[NDArray[np.int32]]) -> torch.Tensor:
        """Give the sentence embeddings of texts: float32, (texts, dim).

        Args:
            texts: token ids of each, special tokens included; at least one, and no more than the student has positions.

        Raises:
            ValueError: there is no text, or one has no token or too many.
        """
        lengths = np.array([len(text) for text in texts], np.int64)
        if not len(lengths) or lengths.min() < 1 or lengths.max() > self._most:
            found = f"{lengths.min()} to {lengths.max()} tokens" if len(lengths) else "no text"
            raise ValueError(f"{found}: expected at least one text, of 1 to {self._most} tokens each")
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        ids, positions = np.zeros((2, _rows_for(int(starts[-1]))), np.int64)
        ids[: starts[-1]] = np.concatenate(list(texts))
        positions[: starts[-1]] = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
        tokens = torch.from_numpy(ids), torch.from_numpy(positions), starts
        pooled: torch.Tensor
        if self._frozen is not None:
            pooled = self._run_frozen(tokens, self._frozen)
        else:
            kept = torch.is_grad_enabled() and any(parameter.requires_grad for parameter in self._parameters)
            encode: Any = _Encoder.apply  # torch gives it no types
            pooled = encode(tokens, self._shape, self._dtype, kept, *self._parameters)
        features: dict[str, Any] = {"sentence_embedding": pooled}
        for module in self._rest:
            features = module(features)
        out: torch.Tensor = features["sentence_embedding"]
        return out

    def _run_frozen(self, tokens: _Tokens, weights: Sequence[_Weights]) -> torch.Tensor:
        with torch.no_grad():
            x = ops.normalize(_under_layers(tokens, self._embeddings, self._shape), self._dtype)
            for layer, of_layer in zip(self._layers, weights, strict=True):
                x, _ = _layer_forward(layer, of_layer, x, tokens[2], self._shape)
            return ops.pool(x, tokens[2], mean=self._shape.mean)


_Tokens = tuple[torch.Tensor, torch.Tensor, ops.Starts]  # ids and positions of packed rows, where texts start


def packed_encoder(model: SentenceTransformer, *, bfloat16: bool, frozen: bool = False) -> PackedEncoder | None:
    """Prepare a model for packed texts, or give None where it is not a plain BERT with mean or first-token pooling.

    Args:
        model: its parameters are shared, and may be changed between calls. Dropout is never applied.
        bfloat16: rows and matrix products in bfloat16, as under autocast; else float32.
        frozen: the parameters stay as they are, and there are no gradients: matrices are cast once.
    """
    if describe().backend != "native" or len(model) < 2:
        return None
    bert: Any = getattr(model[0], "auto_model", None)
    pooling: Any = model[1]
    if type(bert).__name__ != "BertModel" or type(pooling).__name__ != "Pooling":
        return None
    config: Any = bert.config
    plain = (
        config.hidden_act == "gelu"
        and not config.is_decoder
        and getattr(config, "position_embedding_type", None) in (None, "absolute")
        and config.hidden_size % (config.num_attention_heads * WIDTH_STEP) == 0
        and config.intermediate_size % WIDTH_STEP == 0
        and config.hidden_size // config.num_attention_heads <= MOST_HEAD_DIM
        and config.hidden_size <= MOST_WIDTH
        and pooling.pooling_mode in ("mean", "cls")
        and pooling.include_prompt
        and all(parameter.dtype == torch.float32 and parameter.is_contiguous() for parameter in bert.parameters())
        and all(parameter.device.type == "cpu" for parameter in bert.parameters())
    )
    if not plain:
        return None
    under = bert.embeddings
    embeddings = Embeddings(
        under.word_embeddings.weight, under.position_embeddings.weight, under.token_type_embeddings.weight,
        under.LayerNorm.weight, under.LayerNorm.bias,
    )  # fmt: skip
    padding = under.word_embeddings.padding_idx
    shape = Shape(
        config.num_attention_heads, config.layer_norm_eps, -1 if padding is None else padding,
        pooling.pooling_mode == "mean",
    )  # fmt: skip
    layers = [_layer(layer) for layer in bert.encoder.layer]
    return PackedEncoder(model, embeddings, layers, shape, bfloat16=bfloat16, frozen=frozen)


def _layer(layer: Any) -> Layer:
    attention, output = layer.attention.self, layer.attention.output
    linear = (attention.query, attention.key, attention.value, output.dense, output.LayerNorm, layer.intermediate.dense,
              layer.output.dense, layer.output.LayerNorm)  # fmt: skip
    return Layer(*(parameter for module in linear for parameter in (module.weight, module.bias)))


def _rows_for(tokens: int) -> int:
    step = max(LEAST_ROWS, (1 << tokens.bit_length() - 1) // SIZES)
    return -(-tokens // step) * step


class _Weights(NamedTuple):
    """One layer's matrices in the dtype of the rows; queries, keys and values as one."""

    qkv: torch.Tensor
    qkv_bias: torch.Tensor
    out: torch.Tensor
    wide: torch.Tensor
    narrow: torch.Tensor

    @classmethod
    def of(cls, layer: Layer, dtype: torch.dtype) -> _Weights:
        qkv = layer.query.new_empty((3 * len(layer.query), layer.query.shape[1]), dtype=dtype)
        for part, matrix in zip(qkv.chunk(3), (layer.query, layer.key, layer.value), strict=True):
            part.copy_(matrix)
        bias = torch.cat([layer.query_bias, layer.key_bias, layer.value_bias])
        return cls(qkv, bias, *(matrix.to(dtype) for matrix in (layer.out, layer.wide, layer.narrow)))


class _Saved(NamedTuple):
    """What a layer's backward reads."""

    weights: _Weights
    x: torch.Tensor
    qkv: torch.Tensor
    attended: ops.Attended
    first: ops.Norm
    middle: torch.Tensor
    slope: torch.Tensor
    active: torch.Tensor
    second: ops.Norm


class _Encoder(torch.autograd.Function):
    """Embeddings, layers and pooling; the backward is written out, and keeps rows in their dtype all the way."""

    @staticmethod
    def forward(
        ctx: Any, tokens: _Tokens, shape: Shape, dtype: torch.dtype, kept: bool, *parameters: torch.Tensor
    ) -> torch.Tensor:
        starts = tokens[2]
        embeddings, layers = _named(parameters)
        under = _under_layers(tokens, embeddings, shape)
        x = ops.normalize(under, dtype)
        saved = []
        for layer in layers:
            x, of_layer = _layer_forward(layer, _Weights.of(layer, dtype), x, starts, shape)
            if kept:
                saved.append(of_layer)
        if kept:
            ctx.tokens, ctx.shape, ctx.under, ctx.saved, ctx.top = tokens, shape, under, saved, x
            ctx.save_for_backward(*parameters)
        return ops.pool(x, starts, mean=shape.mean)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        embeddings, layers = _named(ctx.saved_tensors)
        ids, positions, starts = ctx.tokens
        wanted = ctx.needs_input_grad[4:]
        first = len(Embeddings._fields)
        pooled = ops.pool_backward(gradient.contiguous(), starts, ctx.top, mean=ctx.shape.mean)
        row_gradients: tuple[torch.Tensor, torch.Tensor | None] = (pooled, None)
        of_layers: list[torch.Tensor | None] = []
        for number in reversed(range(len(layers))):
            needed = wanted[first + number * len(Layer._fields) :][: len(Layer._fields)]
            row_gradients, of_layer = _layer_backward(
                layers[number], ctx.saved[number], starts, ctx.shape, row_gradients, needed
            )
            of_layers = [*of_layer, *of_layers]
        of_embeddings: list[torch.Tensor | None] = [None] * first
        if any(wanted[:first]):
            rows, scale, shift = ops.normalize_backward(ctx.under, *row_gradients)
            token_type = torch.zeros_like(embeddings.token_type)
            token_type[0] = rows[: starts[-1]].sum(0)
            of_embeddings = [
                _scattered(rows, ids, embeddings.word, ctx.shape.padding) if wanted[0] else None,
                _scattered(rows, positions, embeddings.position, -1) if wanted[1] else None,
                token_type, scale, shift,
            ]  # fmt: skip
        return (None, None, None, None, *of_embeddings, *of_layers)


def _scattered(rows: torch.Tensor, places: torch.Tensor, table: torch.Tensor, padding: int) -> torch.Tensor:
    """The gradient in a table of embeddings: each row added at its place, none at the padding's."""
    # NumPy's zeros come in pages of 2 MB, torch's in pages of 4 KB: a third of the time for a vocabulary.
    out = torch.from_numpy(np.zeros(table.shape, np.float32)).index_add_(0, places, rows)
    if padding >= 0:
        out[padding] = 0
    return out


def _named(parameters: Sequence[torch.Tensor]) -> tuple[Embeddings, list[Layer]]:
    first, each = len(Embeddings._fields), len(Layer._fields)
    layers = [Layer(*parameters[at : at + each]) for at in range(first, len(parameters), each)]
    return Embeddings(*parameters[:first]), layers


def _under_layers(tokens: _Tokens, embeddings: Embeddings, shape: Shape) -> ops.Norm:
    ids, positions, _ = tokens
    rows = torch.nn.functional.embedding(ids, embeddings.word)
    rows += torch.nn.functional.embedding(positions, embeddings.position)
    return ops.Norm(rows, embeddings.token_type[0], None, embeddings.scale, embeddings.shift, shape.epsilon)


def _layer_forward(
    layer: Layer, weights: _Weights, x: torch.Tensor, starts: ops.Starts, shape: Shape
) -> tuple[torch.Tensor, _Saved]:
    qkv = x @ weights.qkv.T
    attended = ops.attend(qkv, weights.qkv_bias, starts, shape.heads)
    out = attended.rows @ weights.out.T
    first = ops.Norm(out, layer.out_bias, x, layer.out_scale, layer.out_shift, shape.epsilon)
    middle = ops.normalize(first, x.dtype)
    wide = middle @ weights.wide.T
    active = ops.gelu(wide, layer.wide_bias)
    narrow = active @ weights.narrow.T
    second = ops.Norm(narrow, layer.narrow_bias, middle, layer.narrow_scale, layer.narrow_shift, shape.epsilon)
    return ops.normalize(second, x.dtype), _Saved(weights, x, qkv, attended, first, middle, wide, active, second)


def _layer_backward(
    layer: Layer,
    saved: _Saved,
    starts: ops.Starts,
    shape: Shape,
    gradients: tuple[torch.Tensor, torch.Tensor | None],
    needed: Sequence[bool],
) -> tuple[tuple[torch.Tensor, torch.Tensor], list[torch.Tensor | None]]:
    """Give the gradient in the layer's input, in two parts that are to be added, and those in its parameters."""
    weights = saved.weights
    want = Layer(*needed)  # type: ignore[arg-type]  # truth values in the places of tensors
    narrowed, narrow_scale, narrow_shift = ops.normalize_backward(saved.second, *gradients)
    narrow, narrow_bias = _weight_gradients(narrowed, saved.active, want.narrow, want.narrow_bias)
    widened = narrowed @ weights.narrow
    wide, wide_bias = _weight_gradients(widened, saved.middle, want.wide, want.wide_bias, saved.slope)
    mixed, out_scale, out_shift = ops.normalize_backward(saved.first, widened @ weights.wide, narrowed)
    out, out_bias = _weight_gradients(mixed, saved.attended.rows, want.out, want.out_bias)
    attended = mixed @ weights.out
    qkv = ops.attend_backward(saved.qkv, weights.qkv_bias, starts, shape.heads, saved.attended, attended)
    some = want.query or want.key or want.value
    qkv_weight, qkv_bias = _weight_gradients(qkv, saved.x, some, want.query_bias or want.key_bias or want.value_bias)
    matrices = (None,) * 3 if qkv_weight is None else qkv_weight.chunk(3)
    biases = (None,) * 3 if qkv_bias is None else qkv_bias.chunk(3)
    pairs = [part for pair in zip(matrices, biases, strict=True) for part in pair]
    return (qkv @ weights.qkv, mixed), [
        *pairs, out, out_bias, out_scale, out_shift, wide, wide_bias, narrow, narrow_bias, narrow_scale, narrow_shift,
    ]  # fmt: skip


def _weight_gradients(
    gradient: torch.Tensor, x: torch.Tensor, weight: Any, bias: Any, factor: torch.Tensor | None = None
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Those of y = x W^T + b in W and b, float32; the gradient in y is multiplied by the factor first, in its place."""
    if not (weight or bias):
        if factor is not None:
            gradient *= factor
        return None, None
    of_weight, of_bias = ops.weight_gradient(gradient, x, factor)
    return of_weight if weight else None, of_bias
