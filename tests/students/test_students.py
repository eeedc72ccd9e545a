import re
import subprocess
import sys

import numpy as np
import pytest

from leafkit.errors import ModelError, ShapeMismatch, UnknownStudent
from leafkit.students import (
    LayersSpec,
    ModelSpec,
    StaticSpec,
    fit_ridge,
    parse_spec,
    pooled_vectors,
    projection_of,
    refit,
    whitened,
)
from leafkit.students.specs import kept_layers
from tests import tiny

NO_TORCH = "torch is not installed (extra: train)"
BAD_SPECS = ["layers", "layers:0", "layers:x", "layers:2:last", "layers:2:first:3", "", "no/such/folder", "foo:bar"]


@pytest.mark.parametrize("text", BAD_SPECS)
def test_a_spec_that_names_nothing_is_refused_with_the_forms(text):
    with pytest.raises(UnknownStudent, match="layers:N"):
        parse_spec(text)


def test_specs_are_read(tmp_path):
    assert parse_spec("layers:3") == parse_spec("layers:3:first") == LayersSpec(3, "first")
    assert parse_spec("layers:2:spaced") == LayersSpec(2, "spaced")
    assert parse_spec("static") == StaticSpec()
    assert parse_spec(str(tmp_path)) == ModelSpec(str(tmp_path))
    assert parse_spec("owner/model") == ModelSpec("owner/model")


def test_spaced_layers_end_with_the_last():
    assert kept_layers(LayersSpec(3, "spaced"), 6) == [1, 3, 5]
    assert kept_layers(LayersSpec(2, "first"), 6) == [0, 1]
    assert kept_layers(LayersSpec(6, "spaced"), 6) == list(range(6))
    with pytest.raises(UnknownStudent, match="has 6 layers"):
        kept_layers(LayersSpec(7, "first"), 6)


def test_the_ridge_finds_a_linear_map():
    random = np.random.default_rng(0)
    weight, bias = random.normal(size=(5, 3)), random.normal(size=5)
    x = random.normal(size=(200, 3))
    ridge = fit_ridge(x, x @ weight.T + bias)
    np.testing.assert_allclose(ridge.weight, weight, atol=1e-4)
    np.testing.assert_allclose(ridge(x), x @ weight.T + bias, atol=1e-3)
    assert ridge.cosine > 0.9999


def dense_layer(wide, dim):
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    from sentence_transformers.base.modules import Dense

    return Dense(wide, dim, activation_function=torch.nn.Identity())


@pytest.mark.parametrize(("wide", "dim"), [(8, 20), (20, 8), (9, 9)])
def test_a_whitened_projection_is_a_turn_behind_half_a_whitening_and_only_lent(wide, dim):
    own, projection = dense_layer(wide, wide), dense_layer(wide, dim)  # a model may have a Dense of its own
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    before = [parameter.detach().clone() for parameter in (*own.parameters(), *projection.parameters())]
    x = np.random.default_rng(0).normal(size=(300, wide)) * np.linspace(0.1, 2, wide) + 0.3
    with whitened([own, projection], [x[:100], x[100:]]):
        weight = projection.linear.weight.detach().double().numpy()
        assert not projection.linear.bias.any()
        assert torch.equal(own.linear.weight, before[0])
    after = [*own.parameters(), *projection.parameters()]
    assert all(torch.equal(one, now) for one, now in zip(before, after, strict=True))
    left, _, right = np.linalg.svd(before[2].double().numpy(), full_matrices=False)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    moment = sum(np.outer(row, row) for row in x) / len(x)
    level = np.trace(moment) / wide  # Ledoit and Wolf 2004, lemmas 3.2 to 3.4: towards a multiple of the identity
    noise = sum(np.sum((np.outer(row, row) - moment) ** 2) for row in x) / len(x) ** 2
    share = min(noise / np.sum((moment - level * np.eye(wide)) ** 2), 1)
    values, vectors = np.linalg.eigh((1 - share) * moment + share * level * np.eye(wide))
    np.testing.assert_allclose(weight, left @ right @ (vectors * (values / level) ** -0.25) @ vectors.T, atol=1e-5)


def test_only_a_last_linear_dense_is_the_projection():
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    from sentence_transformers.base.modules import Dense

    own, projection = Dense(4, 4), dense_layer(4, 6)  # the first ends in a tanh
    assert projection_of([own, projection]) is projection
    assert projection_of([own, projection, torch.nn.Identity()]) is projection
    assert projection_of([projection, own]) is None
    assert projection_of([torch.nn.Identity()]) is None


def test_a_student_is_refitted_unless_it_is_nearer_as_it_is():
    random = np.random.default_rng(0)
    x, weight = random.normal(size=(400, 6)), random.normal(size=(9, 6))
    targets = x @ weight.T + 0.5
    projection = dense_layer(6, 9)
    near = refit([projection], x.astype(np.float32), targets)
    assert near > 0.999
    np.testing.assert_allclose(projection.linear.weight.detach().numpy(), weight, atol=1e-3)
    noisy = targets.copy()
    noisy[:360] += 100 * random.normal(size=(360, 9))
    before = projection.linear.weight.detach().clone()
    assert refit([projection], x.astype(np.float32), noisy) == pytest.approx(near)
    assert (projection.linear.weight == before).all()


def test_a_token_table_is_half_whitened():
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    model = SentenceTransformer(modules=[StaticEmbedding(word_tokenizer(), embedding_dim=5)], device="cpu")
    table = model[0].embedding.weight
    with torch.no_grad():
        table.mul_(torch.linspace(0.2, 3, 5))
    before = table.detach().clone()
    texts = [row.text for row in tiny.texts(400)]
    with pooled_vectors(model) as pooled:
        plain = model.encode(texts)
    np.testing.assert_array_equal(np.sort(np.concatenate(pooled), axis=0), np.sort(plain, axis=0))

    def spread(vectors):
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        values = np.linalg.eigvalsh(unit.T @ unit)
        return values[-1] / values[0]

    with whitened(model, pooled):
        evened = model.encode(texts)
    assert spread(evened) < 0.3 * spread(plain)
    assert torch.equal(table, before)


def word_tokenizer():
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(["?", *tiny.WORDS])}, "?"))
    tokenizer.pre_tokenizer = Whitespace()
    return tokenizer


def test_pooled_vectors_that_do_not_fit_the_projection_are_refused():
    projection = dense_layer(6, 9)
    wrong = {"3 pooled vectors, widths [5]": [(3, 5)], "1 pooled vectors, widths [6]": [(1, 6)], "0 pooled vectors": []}
    for found, shapes in wrong.items():
        pooled = [np.ones(shape) for shape in shapes]
        with pytest.raises(ShapeMismatch, match=re.escape(found)), whitened([projection], pooled):
            pass
    with (
        pytest.raises(ModelError, match=r"no linear projection \(Dense\) .* it is int"),
        whitened([1], [np.ones((3, 5))]),
    ):
        pass


def test_texts_that_are_all_alike_give_a_finite_projection():
    projection = dense_layer(6, 9)
    with whitened([projection], [np.ones((4, 6))]):
        weight = projection.linear.weight.detach()
        assert weight.isfinite().all()
        assert weight.norm() > 0


def test_features_and_targets_must_pair_up():
    with pytest.raises(ShapeMismatch, match="3 rows of features, 2 of targets"):
        fit_ridge(np.zeros((3, 2)), np.zeros((2, 2)))


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    from leafkit.teachers import open_teacher

    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="has no tokenizer"):
        open_teacher(tmp_path)
    with pytest.raises(ModelError, match="no such model folder"):
        open_teacher(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="is no model folder"):
        open_teacher(tmp_path / "empty")


def test_the_projection_survives_saving_without_activation_case_05(cases, tmp_path):
    import json

    torch = pytest.importorskip("torch", reason=NO_TORCH)
    from sentence_transformers.base.modules import Dense

    case = cases / "05-projection-in-the-export"
    expected = json.loads((case / "expected.json").read_text())
    weight, bias = np.load(case / "weight_out_in.npy"), np.load(case / "bias.npy")
    dense = Dense(weight.shape[1], weight.shape[0], bias=True, activation_function=torch.nn.Identity())
    with torch.no_grad():
        dense.linear.weight.copy_(torch.from_numpy(weight))
        dense.linear.bias.copy_(torch.from_numpy(bias))
    dense.save(str(tmp_path))
    code = f"""
import sys; sys.modules["leafkit"] = None
import numpy as np, torch
from sentence_transformers.base.modules import Dense
pooled = torch.from_numpy(np.load({str(case / "pooled.npy")!r})).float()
out = Dense.load({str(tmp_path)!r})({{"sentence_embedding": pooled}})["sentence_embedding"]
np.save({str(tmp_path / "out.npy")!r}, out.detach().numpy())
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected["linear"], atol=1e-5)


@pytest.mark.parametrize(
    ("normalized", "layers", "given"),
    [(True, ["Normalize", "Dense", "Normalize"], ["Normalize", "Dense", "Normalize"]), (False, ["Dense"], ["Dense"])],
)
def test_the_projection_reads_unit_vectors_where_the_space_has_them(tmp_path, normalized, layers, given):
    pytest.importorskip("sentence_transformers", reason=NO_TORCH)
    from leafkit.students import build_student
    from leafkit.teachers import open_teacher

    folder = tiny.save_teacher(tmp_path / "t", normalize=normalized, similarity="cosine" if normalized else "dot")
    teacher = open_teacher(folder)
    rows = tiny.texts(200)
    texts = [teacher.space.prompts.of(row.kind) + row.text for row in rows]
    targets = np.concatenate([teacher.encode([row.text], row.kind) for row in rows])
    for spec, modules in (("layers:2", layers), (str(folder), given)):
        student, cosine = build_student(
            parse_spec(spec), teacher.space, base=str(folder), prompted=texts, targets=targets
        )
        assert [type(module).__name__ for module in student] == ["Transformer", "Pooling", *modules]
        ours = student.encode(texts)
        lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(targets, axis=1)
        assert np.mean((ours * targets).sum(axis=1) / lengths) >= cosine - 0.02  # fitted rows, as those held out
    assert cosine > 0.999  # the teacher itself is a linear map of its own vectors
