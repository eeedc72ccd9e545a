"""SentenceEncoder: a sentence-transformers model, a hub name or a local folder, as a Teacher."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import xxhash
from numpy.typing import NDArray

from leafkit.errors import MissingExtra, ModelError, TeacherError
from leafkit.rotation import Rotation
from leafkit.space import EmbeddingSpace, Kind, Prompts, Similarity, TeacherId
from leafkit.teachers.protocol import checked_texts

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Precision = Literal["auto", "float32", "bfloat16"]
TOKENS_PER_BATCH = 2048  # padded; twice as many took 1.4 times as long on one core: rows no longer stay in its cache
NOT_COMPUTED_WITH = (
    "README",
    "LICENSE",
    "SOURCE.json",
    "leafkit.json",
    "run.json",
    "checkpoint.json",
    "config_sentence_transformers.json",
    "recipe.toml",
)
WEIGHTS = (".safetensors", ".bin")
CONFIGURATION = (".json", ".model", ".py")
# A card's words for what goes before a text: "query: ", 'passage:', `search_document: `, "Represent this ...: ".
CARD_PROMPT = re.compile(r"""["'`]((?:(?:search_)?(?:query|passage|document)|Represent this [^"'`:\n]{1,80}): ?)""")
VOCABULARIES = ("vocab.txt", "merges.txt")


class SentenceEncoder:
    """A sentence-transformers model that gives vectors of one space.

    Texts are put in batches of like length, longest first, and come back in their order. bfloat16 is used where the
    CPU has instructions for it (``precision="auto"``); vectors are normalised in float32 where the space is. Weights
    are taken as they are when this is made: a later change of them may pass unseen.

    Attributes:
        space: space of the vectors.
        fingerprint: content hash of the model.
        max_tokens: where texts are cut; None where they are not (a static table has no limit, whatever its teacher's).
        arithmetic: ``bfloat16`` or ``float32``: vectors of the two agree to a cosine of about 0.9999.
        rotation: turns what the model gives into the space; None where it gives vectors of the space.
        unused_prompts: prompts that the model's card names, where the model has none; ``open_teacher`` fills it in.
        truncated: texts cut at the model's token limit, or the space's if that is lower, since this object was made.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        space: EmbeddingSpace,
        fingerprint: str,
        precision: Precision = "auto",
        rotation: Rotation | None = None,
    ) -> None:
        self.model = model.eval()
        self.rotation = rotation
        self.space = space
        self.fingerprint = fingerprint
        self.truncated = 0
        self.unused_prompts: list[str] = []
        if precision == "auto":
            precision = "bfloat16" if cpu_has_bfloat16() else "float32"
        self.arithmetic = precision
        own = _token_limit(model)  # a static table has none and cuts nothing; a leaf's may be below its teacher's
        self.max_tokens = own if own is None else min(own, space.max_tokens or own)
        if self.max_tokens is not None:
            model.max_seq_length = self.max_tokens
        from leafkit.teachers.forward import Forward  # torch, which a model has brought

        self._forward = Forward(model, bfloat16=precision == "bfloat16")

    def encode(self, texts: Sequence[str], kind: Kind) -> NDArray[np.float32]:
        """Embed texts of one kind, the kind's prompt before each: float32, (n, dim).

        Raises:
            TeacherError: the model failed; its error is the cause.
            TypeError, ValueError: texts is a string, or kind is neither query nor document.
        """
        import torch

        prompted = [self.space.prompts.of(kind) + text for text in checked_texts(texts, kind)]
        lengths = self._token_counts(prompted)
        vectors = np.empty((len(texts), self.space.dim), dtype=np.float32)
        try:
            for batch in batches_by_length(lengths, TOKENS_PER_BATCH):
                out = self._forward([prompted[i] for i in batch])
                vectors[batch] = torch.nn.functional.normalize(out) if self.space.normalized else out
                if self.rotation is not None:
                    vectors[batch] = self.rotation.turn(vectors[batch])
        except (RuntimeError, ValueError, IndexError) as exc:
            raise TeacherError(f"{self.space.teacher.name} failed on a batch of {kind} texts: {exc}") from exc
        return vectors

    def _token_counts(self, texts: list[str]) -> list[int]:
        """Tokens of each text as the model sees it, cut texts counted."""
        limit = self.max_tokens
        counts = token_counts(self.model, texts)
        if limit is None:
            return counts
        self.truncated += sum(count > limit for count in counts)
        return [min(count, limit) for count in counts]


def open_teacher(
    model: str | Path,
    *,
    prompts: Prompts | None = None,
    max_tokens: int | None = None,
    rotation: Rotation | None = None,
    precision: Precision = "auto",
) -> SentenceEncoder:
    """Open a sentence-transformers model as a teacher.

    A model whose similarity is the cosine gives vectors of unit length, whether it normalises them itself or not.

    Args:
        model: a hub name (``sentence-transformers/all-MiniLM-L6-v2``) or a local folder.
        prompts: what to put before texts of each kind; the model's own configuration if not given.
        max_tokens: cut texts there; the model's own limit if not given.
        rotation: turn its vectors, as ``rotate = "pca"`` in a recipe did for a leaf's training.
        precision: ``auto`` computes in bfloat16 where the CPU has it.

    Raises:
        ModelError: there is no such model, it has no tokenizer, it is a Router, or its similarity is neither cosine
            nor dot.
    """
    loaded, folder = load_model(model)
    if type(loaded[0]).__name__ == "Router":
        raise ModelError(
            f"{model}: is a Router, with an encoder for queries and another for documents. Give one of the two models"
            " that it was made of: the leaf for queries, the teacher for documents"
        )
    similarity = _similarity(loaded, model)
    if similarity == "cosine" and type(loaded[-1]).__name__ != "Normalize":
        from sentence_transformers.base.modules import Normalize

        loaded.append(Normalize())  # what the cosine would do with the vectors anyway
    own = Prompts(loaded.prompts.get("query") or "", loaded.prompts.get("document") or "")
    limit = _token_limit(loaded)
    if max_tokens is not None and limit is not None and max_tokens > limit:
        raise ModelError(f"{model}: max_tokens {max_tokens} is over the model's own limit of {limit}")
    space = EmbeddingSpace(
        teacher=TeacherId(Path(model).name, content_hash(folder)),
        dim=int(loaded.get_embedding_dimension()),
        normalized=type(loaded[-1]).__name__ == "Normalize",
        similarity=similarity,
        prompts=own if prompts is None else prompts,
        max_tokens=limit if max_tokens is None else max_tokens,
    )
    if rotation is not None:
        space = rotation.space(space)
    encoder = SentenceEncoder(loaded, space, f"teacher-{space.id}", precision, rotation)
    if not (space.prompts.query or space.prompts.document):
        encoder.unused_prompts = _prompts_of_card(folder)
    return encoder


def _prompts_of_card(folder: Path) -> list[str]:
    """The prompts that a model's card quotes, in order."""
    try:
        card = (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return sorted(set(CARD_PROMPT.findall(card)))


def _similarity(loaded: SentenceTransformer, model: str | Path) -> Similarity:
    name = loaded.similarity_fn_name
    if name in ("cosine", "dot"):
        return cast(Similarity, name)
    raise ModelError(f"{model}: its similarity is {name}: leafkit searches by cosine or dot")


def load_model(model: str | Path) -> tuple[SentenceTransformer, Path]:
    """Load a hub name or local folder on the CPU, in float32; give it with the folder its files lie in."""
    folder = _folder_of(model)
    try:
        from sentence_transformers import SentenceTransformer  # 6 s
        from transformers.utils import logging as transformers_logging
    except ImportError as exc:
        raise MissingExtra("sentence-transformers", "train") from exc
    transformers_logging.disable_progress_bar()
    logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
    try:
        loaded = SentenceTransformer(str(folder), device="cpu")
    except Exception as exc:  # a dozen libraries read these files, each with errors of its own
        raise ModelError(f"{model}: cannot be loaded by sentence-transformers: {_first_line(exc)}") from exc
    if getattr(loaded, "tokenizer", None) is None:
        raise ModelError(f"{model}: has no tokenizer, so texts cannot be read. Put its tokenizer.json into the folder")
    return loaded, folder


def _folder_of(model: str | Path) -> Path:
    """The folder of a local model, checked for what is missing most often; or a hub name's snapshot."""
    path = Path(model)
    if path.is_dir():
        if not (path / "modules.json").is_file() and not (path / "config.json").is_file():
            raise ModelError(f"{path}: is no model folder: neither modules.json nor config.json is in it")
        tokenizers = (
            "tokenizer.json",
            "tokenizer.model",
            "vocab.txt",
            "vocab.json",
            "sentencepiece.bpe.model",
            "spiece.model",
        )
        if not any(file for name in tokenizers for file in path.rglob(name)):
            raise ModelError(
                f"{path}: has no tokenizer (none of {', '.join(tokenizers)}). Copy it from the model it came from"
            )
        return path
    if path.exists() or path.is_absolute() or str(model).count("/") > 1 or str(model).startswith("."):
        raise ModelError(f"{model}: no such model folder")
    from huggingface_hub import snapshot_download  # 0.5 s

    name = str(model) if "/" in str(model) else f"sentence-transformers/{model}"
    try:
        return Path(
            snapshot_download(name, ignore_patterns=["onnx/*", "openvino/*", "*.onnx", "*.h5", "*.msgpack", "*.ot"])
        )
    except Exception as exc:  # offline, no such name, gated: the hub's own words say which
        raise ModelError(f"{model}: neither a local folder nor a model that the hub gives: {_first_line(exc)}") from exc


def content_hash(folder: Path) -> str:
    """Hash what a model folder computes with: weights, configuration, tokenizer; not prompts, cards or names.

    A hub snapshot and a local copy of it hash alike: pickled weights beside safetensors ones, and exports to other
    runtimes, are left out, and so is what a user keeps in the folder (a report, notes).
    """
    digest = xxhash.xxh3_128()
    inside = _module_folders(folder)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if not path.is_file() or (len(name.parts) > 1 and name.parts[0] not in inside):
            continue
        if path.name.startswith((".", *NOT_COMPUTED_WITH)):
            continue
        if path.suffix == ".bin" and (path.parent / "model.safetensors").exists():
            continue
        if path.suffix in WEIGHTS + CONFIGURATION or path.name in VOCABULARIES:
            digest.update(f"{name.as_posix()}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as file:
                while piece := file.read(1 << 22):
                    digest.update(piece)
    return f"xxh3:{digest.hexdigest()}"


def _module_folders(folder: Path) -> set[str]:
    """The folders that modules.json names; a plain transformer has none."""
    path = folder / "modules.json"
    if not path.is_file():
        return set()
    try:
        return {Path(module["path"]).parts[0] for module in json.loads(path.read_bytes()) if module["path"]}
    except (ValueError, TypeError, KeyError) as exc:
        raise ModelError(f"{path}: is not the list of a model's modules: {_first_line(exc)}") from exc


def token_counts(model: SentenceTransformer, texts: Sequence[str]) -> list[int]:
    """Tokens of each text, special ones included, before any cut; characters / 4 for a tokenizer without batches."""
    if not texts:
        return []
    tokenizer = model.tokenizer
    if hasattr(tokenizer, "encode_batch"):  # tokenizers.Tokenizer, of static tables: no special tokens, no limit
        return [len(encoding.ids) for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)]
    encoded = tokenizer(list(texts), truncation=False, padding=False, return_attention_mask=False, verbose=False)
    return [len(ids) for ids in encoded["input_ids"]]


def batches_by_length(lengths: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
    """Cut rows into batches of like length, longest first: the batch that runs out of memory does so at once.

    Args:
        lengths: tokens of each row.
        tokens_per_batch: padded tokens that a batch may hold; a single longer row is a batch of its own.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    batches: list[list[int]] = []
    for row in order:
        longest = max(lengths[batches[-1][0]], 1) if batches else 0
        if not batches or (len(batches[-1]) + 1) * longest > tokens_per_batch:
            batches.append([])
        batches[-1].append(row)
    return batches


def cpu_has_bfloat16() -> bool:
    """Whether bfloat16 products run in hardware here; emulated ones are slower than float32."""
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _token_limit(model: SentenceTransformer) -> int | None:
    limit = model.max_seq_length
    return int(limit) if limit is not None and limit < 1 << 20 else None


def _first_line(exc: BaseException) -> str:
    return (str(exc).strip() or repr(exc)).splitlines()[0]
