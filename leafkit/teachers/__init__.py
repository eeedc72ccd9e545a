"""What makes vectors: the Teacher protocol, sentence-transformers models, callables."""

from leafkit.teachers.callable import CallableTeacher
from leafkit.teachers.protocol import CountsTruncation, Teacher, checked_rows, checked_texts
from leafkit.teachers.sentence_transformers import SentenceEncoder, open_teacher

__all__ = [
    "CallableTeacher",
    "CountsTruncation",
    "SentenceEncoder",
    "Teacher",
    "checked_rows",
    "checked_texts",
    "open_teacher",
]
