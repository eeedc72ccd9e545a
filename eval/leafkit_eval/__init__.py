"""Judging encoders on collections with relevance judgements: metrics, runs, intervals, reports."""

from leafkit_eval.bm25 import bm25_run
from leafkit_eval.collections import Collection, load_collection
from leafkit_eval.development import DevelopmentCollection
from leafkit_eval.metrics import Measures, Qrels, Run, measure, rank
from leafkit_eval.report import ReportFiles, write_report
from leafkit_eval.retrieval import judge_retrieval
from leafkit_eval.search import search_run
from leafkit_eval.two_reports import compare_reports

__all__ = [
    "Collection",
    "DevelopmentCollection",
    "Measures",
    "Qrels",
    "ReportFiles",
    "Run",
    "bm25_run",
    "compare_reports",
    "judge_retrieval",
    "load_collection",
    "measure",
    "rank",
    "search_run",
    "write_report",
]
