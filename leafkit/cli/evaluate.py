"""``leafkit eval``: what a leaf keeps of its teacher."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leafkit.errors import LeafkitError, UsageError

if TYPE_CHECKING:
    from leafkit.teachers import Teacher
    from leafkit_eval import Collection

app = typer.Typer(help="Judge a leaf beside its teacher.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Judge a leaf beside its teacher."""


@app.command("retrieval")
def retrieval(
    teacher: Annotated[str, typer.Option(help="Hub name or folder of the teacher.")],
    student: Annotated[Path, typer.Option(help="Leaf made by `leafkit distill`.")],
    out: Annotated[Path, typer.Option(help="Folder of report.json, report.html and the runs.")],
    data: Annotated[
        list[Path] | None, typer.Option(help="BEIR folder (corpus, queries, qrels), or one of such folders; once each.")
    ] = None,
    datasets: Annotated[
        str | None, typer.Option(help="Data sets of BEIR's from the hub, with commas between: scifact,nfcorpus.")
    ] = None,
    split: Annotated[str, typer.Option(help="Which judgements: qrels/SPLIT.tsv.")] = "test",
    cache: Annotated[
        Path | None, typer.Option(help="Folder of vectors to share between reports; OUT/cache if not given.")
    ] = None,
    dims: Annotated[
        str | None,
        typer.Option(help="Widths to judge at too, from the same vectors, with commas between: 512,256,128."),
    ] = None,
    precisions: Annotated[
        str | None,
        typer.Option(help="Precisions to judge at too: float32,bfloat16,int8,binary,binary+rescore."),
    ] = None,
    margin: Annotated[
        float, typer.Option(help="Share of the teacher's score that a leaf may lose and pass as no worse.")
    ] = 0.05,
    keep_self: Annotated[
        bool, typer.Option("--keep-self", help="Keep a document that has its query's own id; BEIR drops it.")
    ] = False,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            help="Another model, leaf, static table or OpenAI-compatible endpoint (URL#MODEL) to judge too, alone; once"
            " a model."
        ),
    ] = None,
    bm25: Annotated[bool, typer.Option("--bm25", help="Judge BM25 too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The report on stdout, for machines.")] = False,
) -> None:
    """Judge teacher, leaf on both sides, and leaf with the teacher's documents: nDCG@10, recall@100, MRR@10.

    Vectors are kept: run it again to go on. With --cache a report of another leaf costs its own vectors only. What
    cannot be read is named at the end, the others are judged, and the exit code is its error's.

    Example: leafkit eval retrieval --data scifact --teacher all-MiniLM-L6-v2 --student leaf --out report
    """
    from leafkit.cli.console import (
        progress_bar,
        require_no_model,
        require_packages,
        say,
        tell,
        tell_json,
        warn_of_prompts,
    )
    from leafkit.io.atomic import make_folder
    from leafkit.students import open_encoder, open_student, student_rotation
    from leafkit.training import RunLog
    from leafkit.training.log import LOG

    require_packages("pytrec_eval", "jinja2", *(["bm25s", "Stemmer"] if bm25 else []), extra="judge")
    from leafkit_eval import judge_retrieval, write_report

    require_no_model(out)
    make_folder(out)
    collections, failures = _load(data or [], _names(datasets), split)
    leaf = open_student(student)
    _require_free(out, student.name, leaf.fingerprint)
    whole = open_encoder(teacher, leaf.space, whose=str(student), rotation=student_rotation(student))
    others = _baselines(baseline or [])
    for encoder in (whole, *others.values()):
        warn_of_prompts(encoder)
    with progress_bar() as on_progress:
        result = judge_retrieval(
            collections,
            teacher=whole,
            student=leaf,
            out=out,
            cache=cache,
            bm25=bm25,
            baselines=others,
            dims=_widths(dims),
            precisions=_names(precisions),
            margin=margin,
            timed=True,
            drop_self=not keep_self,
            not_judged=[str(failure) for failure in failures],
            student_name=student.name,
            training=RunLog.read(student) if (student / LOG).is_file() else None,
            command=shlex.join(["leafkit", *sys.argv[1:]]),
            on_progress=on_progress,
        )
    files = write_report(result, out)
    if as_json:
        tell_json(result)
    else:
        tell(results_table(result["results"]))
        cosine = result["summary"]["mean_cosine_to_teacher"]["all"]
        tell(f"\nmean cosine to the teacher {cosine:.4f}")
        if not keep_self:
            _tell_self_hits(result["results"])
    for role, done in result["embedding"].items():
        for kind, text in done["first_encoded"].items():
            say(f"first {kind} as the {role} encoded it: {text[:100]!r}")
    say(f"report: {files.html}, {files.json} and {files.markdown}")
    for failure in failures:
        say(f"not judged: {failure}")
    if failures:
        raise typer.Exit(failures[0].exit_code)


def _baselines(models: list[str]) -> dict[str, Teacher]:
    """Open every one under its last name; two of one name would be one row."""
    from leafkit.students import open_model
    from leafkit.teachers import is_address, open_endpoint

    opened: dict[str, Teacher] = {}
    for model in models:
        name = re.sub("[^A-Za-z0-9._-]", "-", re.split("[/#]", model.rstrip("/"))[-1])
        if name in opened:
            raise UsageError(f"--baseline {model}: another baseline is called {name!r} too. Rename one folder")
        opened[name] = open_endpoint(model) if is_address(model) else open_model(model)
    return opened


def _load(folders: list[Path], names: list[str], split: str) -> tuple[list[Collection], list[LeafkitError]]:
    """Read what can be read; an error is the last word only where nothing is left to judge."""
    from leafkit.cli.console import require_packages
    from leafkit.io.beir import data_folders
    from leafkit_eval import load_collection

    collections: list[Collection] = []
    failures: list[LeafkitError] = []
    if names:
        require_packages("mteb", extra="eval")
    sources: list[Path | str] = [*(found for folder in folders for found in data_folders(folder)), *names]
    for source in sources:
        try:
            if isinstance(source, Path):
                loaded = [load_collection(source, split=split)]
            else:
                from leafkit_eval.mteb import hub_collections  # 9 s

                loaded = hub_collections(source)
        except LeafkitError as exc:
            failures.append(exc)
            continue
        there = {other.name for other in collections}
        if twice := next((each.name for each in loaded if each.name in there), None):
            failures.append(UsageError(f"{source}: another collection is called {twice!r} too. Rename one folder"))
        else:
            collections += loaded
    if failures and not collections:
        raise failures[0]
    return collections, failures


def _tell_self_hits(rows: list[dict[str, Any]]) -> None:
    from leafkit.cli.console import say

    for name, (shared, relevant) in {
        row["dataset"]: (row["shared_ids"], row["relevant_self_hits"]) for row in rows if row["shared_ids"]
    }.items():
        lost = f"; {relevant} of them are judged relevant: --keep-self keeps them" if relevant else ""
        say(f"{name}: {shared} query ids are document ids too; such a hit of a query is dropped, as BEIR does{lost}")


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _widths(text: str | None) -> list[int]:
    try:
        return [int(name) for name in _names(text)]
    except ValueError as exc:
        raise UsageError(f"--dims {text!r}: expected whole numbers with commas between") from exc


def _require_free(out: Path, student: str, fingerprint: str) -> None:
    """Refuse to replace the report of another leaf; the same leaf's is made anew."""
    path = out / "report.json"
    try:
        there = json.loads(path.read_bytes())["student"]
        name, content = there["name"], there["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return  # none, or nothing that anyone could read
    if (name, content) != (student, fingerprint):
        raise UsageError(
            f"{path} is the report of {name} ({content}): choose another --out, and --cache {out / 'cache'} for the"
            " vectors"
        )


def results_table(rows: list[dict[str, object]]) -> str:
    """Lay result rows out in columns for a terminal."""
    names = ("dataset", "mode", "ndcg_at_10", "recall_at_100", "mrr_at_10", "share_of_teacher")
    cells = [names, *(tuple(_cell(row[name]) for name in names) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(names))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "-" if value is None else str(value)
