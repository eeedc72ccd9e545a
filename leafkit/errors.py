"""Every typed error of leafkit.

LeafkitError
├── UsageError (ValueError)        exit 2  an argument that cannot be meant
│   └── UnknownStudent             exit 2  a student spec that names nothing
├── InputError (ValueError)        exit 3  a user's file or text: file, line, found, expected
├── ShapeMismatch (ValueError)     exit 3  two arrays that do not fit each other
├── SpaceMismatch (ValueError)     exit 3  vectors of two embedding spaces
├── CorruptData (OSError)          exit 3  a stored file that is not what its manifest says
├── StorageError (OSError)         exit 3  the disk refused: full, read-only
├── IndexLocked (OSError)          exit 3  another process writes to the same folder
├── ModelError (ValueError)        exit 3  a model folder that cannot be used
├── MissingExtra (ImportError)     exit 2  an optional package that is not installed
├── TeacherError (RuntimeError)    exit 4  a teacher that failed or gave rows that are not vectors
├── DeviceError (RuntimeError)     exit 4  a GPU, or a tensor on one, that the kernels cannot use
├── RecipeError (ValueError)       exit 2  a training configuration that cannot be meant
├── TrainingStopped (RuntimeError) exit 5  a gate ended the run
└── RunTerminated (RuntimeError)   exit 143 SIGTERM ended the run, after a checkpoint

Each derives from the built-in that a reader expects, so `except ValueError` works too; `exit_code` is what the CLI
ends with. Messages say what was found, what was expected and what to do, the place first.
"""

from __future__ import annotations

from pathlib import Path


class LeafkitError(Exception):
    """Base of every error that leafkit raises on purpose."""

    exit_code = 1


class UsageError(LeafkitError, ValueError):
    """An argument that cannot be meant."""

    exit_code = 2


class UnknownStudent(UsageError):
    """A student spec that names neither a layer count, a static table nor a model."""


class RecipeError(LeafkitError, ValueError):
    """A training configuration that cannot be meant."""

    exit_code = 2


class MissingExtra(LeafkitError, ImportError):
    """An optional package that is not installed; the message names the extra."""

    exit_code = 2

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: pip install 'leafkit[{extra}]'")


class InputError(LeafkitError, ValueError):
    """A file or text of the user's that cannot be read as what it should be."""

    exit_code = 3

    def __init__(self, message: str, *, path: str | Path | None = None, line: int | None = None) -> None:
        self.path = None if path is None else Path(path)
        self.line = line
        place = "" if path is None else f"{path}:{line}: " if line is not None else f"{path}: "
        super().__init__(place + message)


class ShapeMismatch(LeafkitError, ValueError):
    """Two arrays that do not fit each other, or an array of the wrong rank."""

    exit_code = 3


class SpaceMismatch(LeafkitError, ValueError):
    """Vectors, encoders or folders that belong to two embedding spaces."""

    exit_code = 3


class ModelError(LeafkitError, ValueError):
    """A model folder that cannot be used."""

    exit_code = 3


class CorruptData(LeafkitError, OSError):
    """A stored file that is not what its manifest, or its own header, says."""

    exit_code = 3

    def __init__(self, path: str | Path, *, expected: object, found: object, hint: str = "") -> None:
        self.path, self.expected, self.found = Path(path), expected, found
        super().__init__(f"{path}: expected {expected}, found {found}" + (f". {hint}" if hint else ""))


class StorageError(LeafkitError, OSError):
    """The disk refused a write."""

    exit_code = 3


class IndexLocked(LeafkitError, OSError):
    """Another process is writing to the same folder."""

    exit_code = 3


class TeacherError(LeafkitError, RuntimeError):
    """A teacher that failed, or gave rows that are not vectors of its space."""

    exit_code = 4


class DeviceError(LeafkitError, RuntimeError):
    """A GPU that cannot run the kernels, or tensors that lie where they cannot be used."""

    exit_code = 4


class TrainingStopped(LeafkitError, RuntimeError):
    """A gate ended the training run."""

    exit_code = 5


class RunTerminated(LeafkitError, RuntimeError):
    """SIGTERM ended the training run, after its step and a checkpoint."""

    exit_code = 143  # 128 + 15, as a shell counts
