"""Pairs of query and document out of docstrings: a summary line asks for what the rest of its docstring says.

Source is parsed, never imported: no package's code runs, and a broken file costs that file only.
"""

from __future__ import annotations

import ast
import gc
import random
import re
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from leafkit.errors import InputError, UsageError
from leafkit.store import Row
from leafkit_eval.collections import Collection

STDLIB = "stdlib"
DEFAULT_PACKAGES = (
    STDLIB, "numpy", "scipy", "torch", "transformers", "sklearn", "sentence_transformers", "matplotlib", "pyarrow",
    "jinja2", "pydantic", "rich", "typer", "sympy", "networkx", "huggingface_hub", "tokenizers", "safetensors",
    "setuptools", "_pytest", "hypothesis",
)  # fmt: skip

QUERY_WORDS = range(3, 41)  # "Return self." asks for nothing; past 40 words it is no longer a summary
DOCUMENT_WORDS = 8
DOCUMENT_CHARACTERS = 1500  # about 350 tokens: more than the demo's teacher reads
SHARED_BY_MOST = 3  # a summary that more objects have is boilerplate ("Get metadata routing of this object.")
FEWEST_PAIRS = 60
_SKIPPED_FOLDERS = frozenset(
    ("test", "tests", "testing", "site-packages", "dist-packages", "_vendor", "vendor", "idlelib", "lib2to3")
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A documented object: its dotted name, its summary, and the rest of its docstring."""

    id: str
    query: str
    document: str


@dataclass(frozen=True)
class Split:
    """Pairs divided into what judges and what trains; no text of the collection is among the training texts."""

    collection: Collection
    training: tuple[Row, ...]


def present(packages: Iterable[str] = DEFAULT_PACKAGES) -> list[str]:
    """Keep the packages whose source is on this machine."""
    return [name for name in packages if _source_of(name, None) is not None]


def mine(packages: Sequence[str], *, where: Sequence[str | Path] | None = None) -> list[Pair]:
    """Read the docstrings of packages: public functions, classes and methods, nested classes too.

    A file that Python cannot parse is passed over. Of objects with one summary or one text (compared by their
    words) the one with the plainest name stays; a summary that many share goes altogether.

    Args:
        packages: top-level names; ``stdlib`` stands for the standard library.
        where: folders to look in, this interpreter's path if not given.

    Returns:
        Pairs in the order of their ids; the same on every run.

    Raises:
        InputError: a package is not there, or has no Python source.
    """
    found: list[Pair] = []
    for name in dict.fromkeys(packages):
        source = _source_of(name, where)
        if source is None:
            raise InputError(f"package {name!r} has no Python source here. Install it, or leave it out of the list")
        with _no_collector():
            for file, module in _modules(name, source):
                found.extend(_pairs_of_file(file, module))
    return _without_repeats(found)


def split_pairs(
    pairs: Sequence[Pair],
    *,
    judged_documents: int = 4000,
    held_out_queries: int = 500,
    train_queries: int = 10_000,
    train_documents: int = 5_000,
    seed: int = 0,
) -> Split:
    """Divide pairs into a collection to judge on and texts to train on.

    Where there are few pairs, at most a third of them is judged and at most half of those asked for.

    Args:
        pairs: what ``mine`` gave.
        judged_documents: documents of the collection, at most.
        held_out_queries: queries of the collection, each with one right document, at most.
        train_queries: training texts that are summaries, at most.
        train_documents: training texts that are documents, at most.
        seed: decides the draw.

    Raises:
        InputError: fewer than 60 pairs.
        UsageError: a number below 1.
    """
    for name, number in (("judged_documents", judged_documents), ("held_out_queries", held_out_queries)):
        if number < 1:
            raise UsageError(f"{name} must be at least 1, got {number}")
    if len(pairs) < FEWEST_PAIRS:
        raise InputError(f"found {len(pairs)} documented objects, expected at least {FEWEST_PAIRS}. Name more packages")
    drawn = sorted(pairs, key=lambda pair: pair.id)
    random.Random(seed).shuffle(drawn)
    judged = drawn[: min(judged_documents, len(drawn) // 3)]
    asked = judged[: min(held_out_queries, (len(judged) + 1) // 2)]
    collection = Collection(
        name="docstrings",
        split="test",
        documents=tuple(Row(pair.document, "document", pair.id) for pair in sorted(judged, key=lambda pair: pair.id)),
        # Not the object's own name: a document with the query's id would be dropped as the query itself.
        queries=tuple(Row(pair.query, "query", f"about {pair.id}") for pair in asked),
        qrels={f"about {pair.id}": {pair.id: 1} for pair in asked},
    )
    kept_back = {_words(pair.document) for pair in judged} | {_words(pair.query) for pair in judged}
    rest = drawn[len(judged) :]
    queries = [Row(pair.query, "query", pair.id) for pair in rest if _words(pair.query) not in kept_back]
    documents = [Row(pair.document, "document", pair.id) for pair in rest if _words(pair.document) not in kept_back]
    return Split(collection, (*queries[:train_queries], *documents[:train_documents]))


def _source_of(package: str, where: Sequence[str | Path] | None) -> Path | None:
    """The folder or file of a package. Finding a top-level name runs none of its code."""
    if package == STDLIB and where is None:
        return Path(sysconfig.get_path("stdlib"))
    if not package.isidentifier():
        return None
    spec = PathFinder.find_spec(package, None if where is None else [str(folder) for folder in where])
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.origin is not None and spec.origin.endswith(".py") else None


def _modules(package: str, source: Path) -> Iterator[tuple[Path, str]]:
    """Every file with its module's name, in order."""
    if source.is_file():
        yield source, package
        return
    for file in sorted(source.rglob("*.py")):
        parts = file.relative_to(source).with_suffix("").parts
        if _SKIPPED_FOLDERS.isdisjoint(parts) and not any(part.startswith("test_") for part in parts):
            names = parts[:-1] if parts[-1] == "__init__" else parts
            yield file, ".".join(names if package == STDLIB else (package, *names))


def _pairs_of_file(file: Path, module: str) -> Iterator[Pair]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            source = file.read_bytes()
            # Parsing is nearly all of the time. A generated file is a copy of others: transformers has 19 MB of them.
            if not any(quotes in source for quotes in _TRIPLE_QUOTES) or _GENERATED in source[:1000]:
                return
            tree = ast.parse(source)
    except (SyntaxError, ValueError, OSError, RecursionError, MemoryError):
        return
    yield from _pairs_of_body(tree.body, module)


def _pairs_of_body(body: Iterable[ast.stmt], prefix: str) -> Iterator[Pair]:
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        name = f"{prefix}.{node.name}" if prefix else node.name
        docstring = ast.get_docstring(node)
        if docstring is not None and (divided := divide(docstring)) is not None:
            yield Pair(name, *divided)
        if isinstance(node, ast.ClassDef):
            yield from _pairs_of_body(node.body, name)


def divide(docstring: str) -> tuple[str, str] | None:
    """Part a docstring into its first sentence and the rest, both cleaned; None where either is too little.

    Args:
        docstring: with its indentation taken off.
    """
    text = _plain(docstring)
    first, _, rest = text.partition("\n\n")
    sentence, _, more = _SENTENCE_END.sub("\0", " ".join(first.split()), count=1).partition("\0")
    document = "\n".join(part for part in (more.strip(), rest.strip()) if part)
    if len(document) > DOCUMENT_CHARACTERS:
        document = document[:DOCUMENT_CHARACTERS].rsplit(maxsplit=1)[0]
    query = sentence.strip()
    if _FIELD.match(query) or len(query.split()) not in QUERY_WORDS or len(document.split()) < DOCUMENT_WORDS:
        return None
    return query, document


_TRIPLE_QUOTES = (b'"""', b"'''")  # a docstring of several lines has them
_GENERATED = b"automatically generated from"
_SENTENCE_END = re.compile(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.) +(?=[A-Z`\"'(*])")
# ":param x:", "x (`int` of (n,)): ...", "Args: ...", ">>> f()", "Optional arguments:": heads of lists, no summaries
_FIELD = re.compile(r"[:>@]|\w+ ?(\(.*\))? ?:(\s|$)|.*:$")
_ROLE = re.compile(r":[a-z][a-z:+-]*:`~?\.?([^`<]*?)(?:\s*<[^>`]*>)?`")
_RULER = re.compile(r"^\s*([-=~^*#\"'`+])\1{2,}\s*$", re.MULTILINE)
_DIRECTIVE = re.compile(r"^\s*\.\. [\w-]+::.*$", re.MULTILINE)
_BLANK = re.compile(r"\n\s*\n\s*")


def _plain(docstring: str) -> str:
    """Take reStructuredText's marks away: roles, double backticks, directives, rulers, runs of blank lines."""
    text = docstring.encode("utf-8", "ignore").decode()  # lone surrogates, from escapes in the source
    text = _ROLE.sub(r"\1", text)
    text = _DIRECTIVE.sub("", _RULER.sub("", text)).replace("``", "`")
    return _BLANK.sub("\n\n", text).strip()


def _words(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


def _without_repeats(found: Iterable[Pair]) -> list[Pair]:
    # The plainest name first: numpy.sort before numpy._core.fromnumeric.sort, the shorter before the longer.
    ordered = sorted(found, key=lambda pair: ("._" in f".{pair.id}", pair.id.count("."), pair.id))
    shared = Counter(_words(pair.query) for pair in ordered)
    seen: set[str] = set()
    kept = []
    for pair in ordered:
        query, document = _words(pair.query), _words(pair.document)
        if shared[query] > SHARED_BY_MOST or not seen.isdisjoint((query, document)) or query == document:
            continue
        seen.update((query, document))
        kept.append(pair)
    return sorted(kept, key=lambda pair: pair.id)


@contextmanager
def _no_collector() -> Iterator[None]:
    """Millions of syntax nodes without a cycle: looking for one takes longer than parsing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
