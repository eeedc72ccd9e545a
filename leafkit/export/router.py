"""An asymmetric pair as one sentence-transformers Router folder: leaf for queries, teacher for documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from leafkit.errors import UsageError
from leafkit.io.atomic import new_folder
from leafkit.rotation import Rotation
from leafkit.students.folder import open_encoder, open_student, student_rotation


def export_router(student: str | Path, teacher: str | Path, out: str | Path) -> Path:
    """Write a folder that plain sentence-transformers loads, with both prompts.

    ``encode_query`` gives the leaf's vectors and ``encode_document`` the teacher's, each with its prompt.

    Args:
        student: a leaf's folder.
        teacher: its teacher, a hub name or folder.
        out: folder to write; must not be there.

    Raises:
        SpaceMismatch: the leaf was trained in another teacher's space.
        UsageError: ``out`` is there already.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Router

    folder = Path(out)
    if folder.exists():
        raise UsageError(f"{folder} is there already: choose another --out, or remove it")
    leaf = open_student(student, precision="float32")
    rotation = student_rotation(student)
    whole = open_encoder(teacher, leaf.space, whose=str(student), rotation=rotation, precision="float32")
    documents = [*whole.model, *([] if rotation is None else [_as_module(rotation)])]
    router = Router.for_query_document(query_modules=list(leaf.model), document_modules=documents)
    prompts = {"query": leaf.space.prompts.query, "document": leaf.space.prompts.document}
    pair = SentenceTransformer(
        modules=[router], device="cpu", prompts=prompts, similarity_fn_name=leaf.space.similarity
    )
    with new_folder(folder) as scratch:
        pair.save(str(scratch), create_model_card=False)
    return folder


def _as_module(rotation: Rotation) -> Any:
    import torch
    from sentence_transformers.base.modules import Dense

    dim = len(rotation.matrix)
    dense = Dense(dim, dim, bias=False, activation_function=torch.nn.Identity())
    with torch.no_grad():
        dense.linear.weight.copy_(torch.from_numpy(rotation.matrix.T.copy()))
    return dense
