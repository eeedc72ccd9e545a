"""A training step of a MiniLM-sized student in length buckets beside random batches: texts/s. Random weights."""

import numpy as np
from form import arguments, finish, median_seconds, row


def main() -> None:
    options = arguments(__doc__)
    import torch
    from transformers import BertConfig, BertModel

    from leafkit.ops.torch import alignment_loss
    from leafkit.training.batches import plan_epoch
    from leafkit.training.data import Tokens

    torch.set_num_threads(options.threads)
    model = BertModel(BertConfig(hidden_size=384, num_hidden_layers=2 if options.quick else 6, num_attention_heads=12,
                                 intermediate_size=1536)).eval()  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(3.9, 0.8, 320), 5, 256).astype(np.int64)
    tokens = Tokens([random.integers(1000, 30000, n).astype(np.int32) for n in lengths], 0, False)
    targets = torch.nn.functional.normalize(torch.randn(len(lengths), 384))

    def step(rows: np.ndarray) -> None:
        batch = tokens.batch(rows)
        hidden = model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        pooled = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1))
        optimizer.zero_grad()
        alignment_loss(pooled, targets[rows]).backward()
        optimizer.step()

    buckets = plan_epoch(lengths, batch_size=32, window=50, seed=0, epoch=0)
    unsorted = np.array_split(random.permutation(len(lengths)), len(buckets))
    calls = {"buckets": lambda: [step(rows) for rows in buckets], "random": lambda: [step(rows) for rows in unsorted]}
    taken = median_seconds(calls, 1 if options.quick else 3)
    rates = {name: len(lengths) / seconds for name, seconds in taken.items()}
    case = f"step of 32, mean {lengths.mean():.0f} tokens"
    finish([row(case, "same loop, random batches", "torch", rates["random"], rates["buckets"], "texts/s")], options)


if __name__ == "__main__":
    main()
