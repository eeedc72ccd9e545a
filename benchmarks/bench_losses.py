"""Alignment losses, value and gradient, beside eager torch: steps/s and the largest difference of the gradients."""

from form import arguments, finish, median_seconds, row


def main() -> None:
    options = arguments(__doc__)
    import torch

    from leafkit.ops.torch import alignment_loss

    torch.set_num_threads(options.threads)
    rows = []
    for batch, dim in [(32, 384), (512, 768)] if options.quick else [(32, 768), (4096, 768)]:
        torch.manual_seed(0)
        student, teacher = torch.randn(batch, dim, requires_grad=True), torch.randn(batch, dim)
        peers = {
            "squared_l2": lambda s=student, t=teacher: ((s - t) ** 2).sum(dim=1).mean(),
            "cosine": lambda s=student, t=teacher: (1 - torch.nn.functional.cosine_similarity(s, t)).mean(),
        }
        for metric, peer in peers.items():
            ours = lambda s=student, t=teacher, m=metric: torch.autograd.grad(alignment_loss(s, t, m), s)[0]  # noqa: E731
            theirs = lambda s=student, peer=peer: torch.autograd.grad(peer(), s)[0]  # noqa: E731
            difference = float((ours() - theirs()).abs().max())
            taken = median_seconds({"leafkit": ours, "torch": theirs}, 15)
            rows.append(row(f"{metric} {batch} x {dim}", "torch eager", "torch", 1 / taken["torch"],
                            1 / taken["leafkit"], "steps/s", quality=difference, peer_quality=0.0))  # fmt: skip
    finish(rows, options)


if __name__ == "__main__":
    main()
