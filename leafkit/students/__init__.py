"""Small encoders: from a spec to an ordinary sentence-transformers model with the projection inside."""

from leafkit.students.build import build_student
from leafkit.students.folder import (
    open_encoder,
    open_model,
    open_student,
    save_student,
    student_rotation,
    write_student,
)
from leafkit.students.projection import Ridge, fit_ridge, pooled_vectors, projection_of, refit, table_of, whitened
from leafkit.students.specs import LayersSpec, ModelSpec, StaticSpec, StudentSpec, parse_spec

__all__ = [
    "LayersSpec",
    "ModelSpec",
    "Ridge",
    "StaticSpec",
    "StudentSpec",
    "build_student",
    "fit_ridge",
    "open_encoder",
    "open_model",
    "open_student",
    "parse_spec",
    "pooled_vectors",
    "projection_of",
    "refit",
    "save_student",
    "student_rotation",
    "table_of",
    "whitened",
    "write_student",
]
