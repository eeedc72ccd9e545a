"""``leafkit selftest``: whether this installation computes what it should."""

from __future__ import annotations

from typing import Annotated

import typer


def selftest(
    cuda: Annotated[bool, typer.Option("--cuda", help="Check the GPU's kernels too; needs a GPU.")] = False,
) -> None:
    """Compare the operations at every CPU level, and on a GPU, with NumPy in float64; some seconds.

    On a GPU, `compute-sanitizer --tool memcheck leafkit selftest --cuda` (and racecheck, synccheck, initcheck) finds
    what results do not show.

    Example: leafkit selftest --cuda
    """
    from leafkit.cli.console import require_packages, tell
    from leafkit.errors import DeviceError
    from leafkit.ops.backend import describe_cuda
    from leafkit.ops.selftest import check_cpu, check_cuda

    checks = [*check_cpu()]
    if cuda:
        state = describe_cuda()
        if state.state != "ready":
            raise DeviceError(f"the GPU cannot be used ({state.state}): {state.detail}")
        require_packages("torch", extra="train")
        checks += check_cuda()
    for check in checks:
        tell(f"{'ok' if check.passed else 'WRONG':5}  {check.name}: error {check.error:.1e}, bound {check.bound:.0e}")
    wrong = [check for check in checks if not check.passed]
    tell(f"{len(checks) - len(wrong)} of {len(checks)} checks passed")
    if wrong:
        raise typer.Exit(1)
