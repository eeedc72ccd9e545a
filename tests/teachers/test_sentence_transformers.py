import json

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed (extra: train)")

from leafkit.errors import ModelError
from leafkit.space import Prompts
from leafkit.teachers import open_teacher
from tests import tiny
from tests.tiny import texts


def test_the_prompts_are_the_models_and_reach_the_tokenizer_case_01(teacher_folder):
    teacher = open_teacher(teacher_folder, precision="float32")
    assert teacher.space.prompts.query == "find: "
    plain = teacher.model.encode(["find: w1 w2"], normalize_embeddings=True)
    np.testing.assert_allclose(teacher.encode(["w1 w2"], "query"), plain, atol=1e-5)
    assert np.abs(teacher.encode(["w1 w2"], "document") - plain).max() > 1e-3


def test_a_string_for_texts_and_an_unknown_kind_are_refused(teacher_folder):
    teacher = open_teacher(teacher_folder)
    with pytest.raises(TypeError, match="texts is a string, expected a sequence"):
        teacher.encode("w1 w2", "query")
    with pytest.raises(ValueError, match="kind 'doc': expected query or document"):
        teacher.encode(["w1"], "doc")


def test_vectors_do_not_depend_on_their_batch_and_come_in_order(teacher_folder):
    teacher = open_teacher(teacher_folder, precision="float32")
    rows = [row.text for row in texts(70)]
    together = teacher.encode(rows, "document")
    np.testing.assert_allclose(together, np.concatenate([teacher.encode([r], "document") for r in rows]), atol=1e-5)


def test_cut_texts_are_counted_exactly_case_02(teacher_folder):
    teacher = open_teacher(teacher_folder, precision="float32")  # a limit of 32 tokens, two of them special
    vectors = teacher.encode([" ".join(["w1"] * count) for count in (5, 30, 31, 50)], "document")
    assert teacher.truncated == 2
    np.testing.assert_allclose(vectors[1], vectors[2], atol=1e-5)
    np.testing.assert_allclose(vectors[1], vectors[3], atol=1e-5)


def test_a_cosine_model_without_normalisation_is_opened_in_a_normalised_space(tmp_path):
    """Inner products of its own vectors are no cosines: the index would rank long vectors first (case 14)."""
    teacher = open_teacher(tiny.save_teacher(tmp_path / "long", normalize=False), precision="float32")
    assert teacher.space.normalized
    vectors = teacher.encode(["w1 w2", "w3"], "document")
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    from sentence_transformers import SentenceTransformer

    own = SentenceTransformer(str(tmp_path / "long")).encode(["w1 w2", "w3"])
    np.testing.assert_allclose(vectors, own / np.linalg.norm(own, axis=1, keepdims=True), atol=1e-5)


def test_a_dot_model_keeps_its_lengths(tmp_path):
    folder = tiny.save_teacher(tmp_path / "dot", normalize=False, similarity="dot")
    teacher = open_teacher(folder, precision="float32")
    assert (teacher.space.normalized, teacher.space.similarity) == (False, "dot")
    assert np.abs(np.linalg.norm(teacher.encode(["w1 w2"], "document"), axis=1) - 1).max() > 0.1


def test_a_model_of_another_similarity_is_refused_by_its_name(tmp_path):
    folder = tiny.save_teacher(tmp_path / "far", normalize=False, similarity="euclidean")
    with pytest.raises(ModelError, match="euclidean.* cosine or dot"):
        open_teacher(folder)


def test_a_real_model_without_normalisation_gives_unit_vectors(models):
    teacher = open_teacher(models / "paraphrase-MiniLM-L3-v2")
    np.testing.assert_allclose(np.linalg.norm(teacher.encode(["moss", "a longer text"], "query"), axis=1), 1, atol=1e-5)


def test_the_prompts_of_a_real_model_are_used(models):
    teacher = open_teacher(models / "multilingual-e5-small-enpt-q4", precision="float32")
    assert (teacher.space.prompts.query, teacher.space.prompts.document) == ("query: ", "passage: ")
    for kind, prompt in (("query", "query: "), ("document", "passage: ")):
        plain = teacher.model.encode([prompt + "how deep do oak roots grow"], prompt="")
        np.testing.assert_allclose(teacher.encode(["how deep do oak roots grow"], kind), plain, atol=1e-5)


def test_prompts_that_only_the_card_names_are_told(tmp_path):
    folder = tiny.save_teacher(tmp_path / "model")
    (folder / "README.md").write_text(
        'Texts start with "query: " or "passage: ", "query: how" for example; the query: no.'
    )
    assert open_teacher(folder).unused_prompts == []  # it has its own
    config = json.loads((folder / "config_sentence_transformers.json").read_text())
    (folder / "config_sentence_transformers.json").write_text(json.dumps(config | {"prompts": {}}))
    assert open_teacher(folder).unused_prompts == ["passage: ", "query: "]
    assert open_teacher(folder, prompts=Prompts("find: ")).unused_prompts == []
    (folder / "README.md").write_text("`Represent this sentence for searching relevant passages: ` goes before queries")
    assert open_teacher(folder).unused_prompts == ["Represent this sentence for searching relevant passages: "]
    (folder / "README.md").unlink()
    assert open_teacher(folder).unused_prompts == []


def test_bfloat16_vectors_agree_with_float32_ones(models):
    rows = ["moss", "how deep do oak roots grow", "Oak roots stay mostly in the top metre of soil. " * 8]
    exact, rounded = (
        open_teacher(models / "paraphrase-MiniLM-L3-v2", precision=precision).encode(rows, "document")
        for precision in ("float32", "bfloat16")
    )
    assert ((exact * rounded).sum(axis=1) >= 0.999).all()
    assert np.abs(exact - rounded).max() > 1e-5  # it was another computation
    np.testing.assert_allclose(np.linalg.norm(rounded, axis=1), 1, atol=1e-5)  # normalised in float32
