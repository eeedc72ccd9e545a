"""A tiny real model with random weights, made here, so that no hub is needed; and texts in its words."""

from pathlib import Path

import numpy as np

from leafkit.store import Row

WORDS = [f"w{number}" for number in range(60)]


def save_teacher(folder: Path, *, normalize: bool = True, similarity: str = "cosine") -> Path:
    """Save a BERT of three layers and width 32 with a word tokenizer, a limit of 32 tokens and prompts."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import BertConfig, BertModel, BertTokenizerFast

    plain = folder.with_name(folder.name + "-plain")
    plain.mkdir()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "find", ":", *WORDS]
    (plain / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(str(plain / "vocab.txt")).save_pretrained(plain)
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, initializer_range=0.5,
    )  # fmt: skip
    BertModel(config).save_pretrained(plain)
    modules = [Transformer(str(plain), max_seq_length=32), Pooling(32), *([Normalize()] if normalize else [])]
    model = SentenceTransformer(modules=modules, device="cpu", similarity_fn_name=similarity)
    model.prompts = {"query": "find: ", "document": ""}
    model.save(str(folder))
    return folder


def texts(count: int) -> list[Row]:
    random = np.random.default_rng(5)
    kinds = ("query", "document")
    return [
        Row(" ".join(random.choice(WORDS, random.integers(1, 20))), kinds[number % 3 > 0], str(number))
        for number in range(count)
    ]
