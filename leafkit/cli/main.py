"""The ``leafkit`` command: its tree, and how every error ends it."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from typing import Any

import typer
from typer.exceptions import Abort, TyperException

from leafkit.cli import (
    card,
    compare,
    demo,
    distil,
    embed,
    evaluate,
    export,
    importing,
    index,
    info,
    mteb,
    runs,
    search,
    selftest,
)
from leafkit.cli.console import say
from leafkit.errors import LeafkitError, StorageError

app = typer.Typer(
    name="leafkit",
    help="Distil small encoders (leaves) into a teacher's embedding space; search a teacher's documents with a leaf.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("info")(info.info)
app.command("selftest")(selftest.selftest)
app.command("embed")(embed.embed)
app.command("import")(importing.import_)
app.command("distill")(distil.distill)
app.command("runs")(runs.runs)
app.add_typer(index.app, name="index")
app.command("search")(search.search)
evaluate.app.command("mteb")(mteb.mteb)
evaluate.app.command("compare")(compare.compare)
evaluate.app.command("card")(card.card)
app.add_typer(evaluate.app, name="eval")
app.command("export")(export.export)
app.command("demo")(demo.demo)


INTERRUPTED = 130


def main() -> None:
    """Run a command; a typed error is one line on stderr and its own exit code."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # nothing of ours forks after tokenising
    warnings.showwarning = _warn
    try:
        code = app(standalone_mode=False)
        if code == INTERRUPTED:  # typer's own answer to Ctrl-C
            raise KeyboardInterrupt
    except LeafkitError as exc:
        _end(str(exc), exc.exit_code)
    except (KeyboardInterrupt, Abort):
        _end("interrupted: what was done is kept, run the same command again to go on", INTERRUPTED)
    except TyperException as exc:
        exc.show()  # type: ignore[attr-defined]  # every kind that typer raises has it
        sys.exit(exc.exit_code)
    except Exception as exc:  # noqa: BLE001  # the one place that catches broadly
        if isinstance(exc, OSError) and exc.errno == errno.ENOSPC:  # of stdout: files say StorageError themselves
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left would fail again at exit
            _end(f"the output cannot be written ({exc.strerror})", StorageError.exit_code)
        _end(f"a fault of leafkit's own, {exc!r}: please report it with the output under LEAFKIT_DEBUG=1", 1)
    sys.exit(code if isinstance(code, int) else 0)


def _warn(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
    if issubclass(category, UserWarning):
        say(f"warning: {message}")


def _end(message: str, code: int) -> None:
    if os.environ.get("LEAFKIT_DEBUG") == "1" and sys.exc_info()[0] not in (None, KeyboardInterrupt):
        raise  # called from an except clause: the traceback is what was asked for
    say(f"error: {message}")
    sys.exit(code)
