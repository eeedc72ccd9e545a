"""``leafkit info``: what is installed and which code answers."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer


def info(as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for machines.")] = False) -> None:
    """Say which version and native backend are in use, at which CPU level, and why; and whether GPUs can be used.

    Example: leafkit info --json
    """
    from leafkit import __version__
    from leafkit.cli.console import tell, tell_json
    from leafkit.ops.backend import describe, describe_cuda

    native, cuda = describe(), describe_cuda()
    packages = {
        name: _version(name)
        for name in ("torch", "sentence-transformers", "numpy", "faiss-cpu", "faiss-gpu", "mteb", "beir")
    }
    value = {
        "version": __version__,
        "python": platform.python_version(),
        "native_backend": native.backend,
        "reason": native.reason,
        "cpu_level": native.level,
        "cpu_levels": list(native.levels),
        "cpu_features": list(native.cpu_features),
        "threads": native.threads,
        "cuda": cuda.state,
        "cuda_detail": cuda.detail,
        "packages": packages,
    }
    if as_json:
        tell_json(value)
        return
    tell(f"leafkit {__version__}, Python {platform.python_version()}")
    tell(f"backend   {native.backend} ({native.reason})")
    tell(f"CPU level {native.level}; available: {', '.join(native.levels) or 'none'}; threads {native.threads}")
    tell(f"CUDA      {cuda.state}: {cuda.detail}")
    tell("packages  " + ", ".join(f"{name} {number or 'not installed'}" for name, number in packages.items()))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
