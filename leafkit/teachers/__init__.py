"""What makes vectors: the Teacher protocol, sentence-transformers models, callables, endpoints."""

from leafkit.teachers.callable import CallableTeacher
from leafkit.teachers.http import HttpTeacher, is_address, open_endpoint
from leafkit.teachers.protocol import CountsTruncation, Teacher, checked_rows, checked_texts
from leafkit.teachers.sentence_transformers import SentenceEncoder, open_teacher

__all__ = [
    "CallableTeacher",
    "CountsTruncation",
    "HttpTeacher",
    "SentenceEncoder",
    "Teacher",
    "checked_rows",
    "checked_texts",
    "is_address",
    "open_endpoint",
    "open_teacher",
]
