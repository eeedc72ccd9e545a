"""Two reports side by side: the same collections and modes, query by query, from the values that they keep."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leafkit.errors import InputError
from leafkit_eval import statistics
from leafkit_eval.metrics import METRICS
from leafkit_eval.retrieval import FORMAT, VERSION

ROUNDED = 1e-5  # the values of single queries have six digits


def compare_reports(first: str | Path, second: str | Path, *, metric: str = "ndcg_at_10") -> list[dict[str, Any]]:
    """Compare what two reports say of the collections and modes that both have.

    Args:
        first: folder of a report.
        second: folder of another, on the same judgements.
        metric: ``ndcg_at_10``, ``recall_at_100`` or ``mrr_at_10``.

    Returns:
        A row for each mode and collection, and before them one for each mode over all collections (``dataset`` null)
        where there are several: ``first``, ``second`` (means over the queries), ``difference`` (second less first) with
        its bootstrap interval, ``p`` of a paired randomisation test and ``p_holm``, corrected for the rows of its kind
        that differ at all.

    Raises:
        InputError: a folder holds no report of this version, or one whose files do not agree; the two have nothing in
            common, or judge a collection by other judgements.
    """
    folders = [Path(first), Path(second)]
    if metric not in METRICS:
        raise InputError(f"there is no metric {metric!r}: expected one of {', '.join(METRICS)}")
    reports = [_judged(folder) for folder in folders]
    shared = [key for key in reports[0] if key in reports[1]]
    if not shared:
        raise InputError(f"shares no collection, split and mode with {first}", path=folders[1])
    values = {key: _paired(folders, [report[key] for report in reports], key, metric) for key in shared}
    rows: list[dict[str, Any]] = []
    for mode in dict.fromkeys(key[2] for key in shared):
        of_mode = [key for key in shared if key[2] == mode]
        if len(of_mode) > 1:
            groups = [reports[0][key].get("part_of") or key[0] for key in of_mode]
            rows.append(_row(None, mode, [(key, values[key]) for key in of_mode], groups))
    over_all = len(rows)
    rows += [_row(key, key[2], [(key, values[key])], [key[0]]) for key in shared]
    for part in (rows[:over_all], rows[over_all:]):
        tested = [row for row in part if row.pop("tested")]
        for row, corrected in zip(tested, statistics.holm([row["p"] for row in tested]), strict=True):
            row["p_holm"] = corrected
    return rows


def unshared(first: str | Path, second: str | Path) -> dict[str, list[str]]:
    """Name what one report judges and the other does not: folder to collection and mode."""
    folders = [Path(first), Path(second)]
    keys = [list(_judged(folder)) for folder in folders]
    return {
        str(folder): [f"{key[0]} ({key[2]})" for key in own if key not in others]
        for folder, own, others in zip(folders, keys, keys[::-1], strict=True)
    }


_Key = tuple[str, str, str]  # collection, split, mode


def _row(
    key: _Key | None, mode: str, parts: list[tuple[_Key, NDArray[np.float64]]], groups: list[str]
) -> dict[str, Any]:
    means = statistics.grouped_mean([pair.mean(axis=1) for _, pair in parts], groups)
    drawn = statistics.grouped_mean(
        [statistics.bootstrap_means(pair, salt=f"{own[0]}/{own[1]}") for own, pair in parts], groups
    )
    chance = statistics.grouped_mean(
        [statistics.flipped_means(pair[1:] - pair[:1], salt=f"{own[0]}/{own[1]}") for own, pair in parts], groups
    )
    difference = float(means[1] - means[0])
    return {
        "dataset": None if key is None else key[0],
        "split": None if key is None else key[1],
        "mode": mode,
        "collections": len(set(groups)),
        "first": float(means[0]),
        "second": float(means[1]),
        "difference": difference,
        "difference_interval": statistics.interval(drawn[:, 1] - drawn[:, 0]),
        "p": statistics.p_value(difference, chance[:, 0]),
        "p_holm": 1.0,
        "tested": any((pair[0] != pair[1]).any() for _, pair in parts),  # a teacher judged twice is no hypothesis
    }


def _judged(folder: Path) -> dict[_Key, dict[str, Any]]:
    path = folder / "report.json"
    try:
        report: Any = json.loads(path.read_bytes())
    except OSError as exc:
        raise InputError("holds no report.json: give the folder of a report", path=folder) from exc
    except (ValueError, RecursionError) as exc:
        raise InputError(f"is no JSON: {exc}", path=path) from exc
    if not isinstance(report, dict) or report.get("format") != FORMAT or report.get("version") != VERSION:
        found = (
            f"{report.get('format')!r}, version {report.get('version')!r}" if isinstance(report, dict) else "no object"
        )
        raise InputError(f"is {found}, expected {FORMAT!r}, version {VERSION}: make the report anew", path=path)
    try:
        self_hits = report["settings"]["self_hits"]
        return {
            (str(row["dataset"]), str(row["split"]), str(row["mode"])): {**row, "self_hits": self_hits}
            for row in report["results"]
        }
    except (KeyError, TypeError) as exc:
        raise InputError(f"is not what leafkit wrote ({exc!r}): make the report anew", path=path) from exc


def _paired(folders: list[Path], rows: list[dict[str, Any]], key: _Key, metric: str) -> NDArray[np.float64]:
    """The metric of every query, (2, Q), of both reports in the order of the first's."""
    if rows[0].get("judgements") != rows[1].get("judgements"):
        raise InputError(f"{key[0]} ({key[1]}) was judged by other judgements than in {folders[0]}", path=folders[1])
    for what, told in (("documents", "documents"), ("self_hits", "hits with the query's own id")):
        if rows[0].get(what) != rows[1].get(what):
            raise InputError(
                f"{key[0]} ({key[1]}) was judged with {told}: {rows[1].get(what)}, in {folders[0]}:"
                f" {rows[0].get(what)}. Judge both alike",
                path=folders[1],
            )
    tables = []
    for folder, row in zip(folders, rows, strict=True):
        path = folder / "runs" / f"{'.'.join(key)}.tsv"
        table = _per_query(path, metric)
        mean, said = sum(table.values()) / max(len(table), 1), row.get(metric)
        if len(table) != row.get("queries") or not isinstance(said, float) or not abs(mean - said) < ROUNDED:
            raise InputError(
                f"has {len(table)} queries with a mean of {mean:.6f}, report.json says {row.get('queries')} with"
                f" {row.get(metric)}: make the report anew",
                path=path,
            )
        tables.append(table)
    if tables[0].keys() != tables[1].keys():
        raise InputError(f"{key[0]} ({key[1]}) was judged on other queries than in {folders[0]}", path=folders[1])
    return np.array([[table[query] for query in tables[0]] for table in tables])


def _per_query(path: Path, metric: str) -> dict[str, float]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {
                row["query-id"]: float(row[metric])
                for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            }
    except (OSError, KeyError, TypeError, ValueError) as exc:
        raise InputError(f"cannot be read ({exc!r}): make the report anew", path=path) from exc
