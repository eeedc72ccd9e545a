"""RunLog."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from leafkit.io.atomic import storage_errors

LOG = "log.jsonl"


class _Log:
    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def write(self, **fields: Any) -> None:
        if self._folder is not None:
            path = self._folder / LOG
            with storage_errors(path), path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(fields) + "\n")

    def flush(self) -> None: ...

    def close(self) -> None: ...


def open_log(folder: Path | None) -> _Log:
    return _Log(folder)
