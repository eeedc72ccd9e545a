"""The objective inside SentenceTransformerTrainer, in real runs of a tiny model on a store's dataset."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra: train)")
pytest.importorskip("datasets", reason="datasets is not installed (extra: datasets)")

from datasets import Dataset  # after the skips
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers import SentenceTransformerTrainingArguments as Arguments

from leafkit import training
from leafkit.errors import RecipeError, ShapeMismatch, UsageError
from leafkit.ops import torch as torch_ops
from leafkit.ops.torch import alignment_loss
from leafkit.store import EmbeddingStore
from leafkit.students import build_student, parse_spec
from leafkit.training import AlignmentLoss, Objective
from leafkit.training.data import Tokens


@pytest.fixture
def opened(store):
    return EmbeddingStore.open(store)


def start(store, spec):
    """A student as `leafkit distill` starts it; it trains without dropout."""
    rows = np.arange(len(store))
    prompted = list(store.as_dataset()["text"])
    student, _ = build_student(
        parse_spec(spec), store.space, base=store.model, prompted=prompted, targets=store.vectors(rows)
    )
    for module in student.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return student


def train(student, loss, dataset, folder, rate):
    arguments = Arguments(
        str(folder), max_steps=40, per_device_train_batch_size=32, learning_rate=rate, logging_steps=1,
        report_to="none", save_strategy="no", use_cpu=True, disable_tqdm=True, seed=3, dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = SentenceTransformerTrainer(model=student, args=arguments, train_dataset=dataset, loss=loss)
    trainer.train()
    return trainer, [line["loss"] for line in trainer.state.log_history if "loss" in line]


@pytest.mark.parametrize(("spec", "rate", "prefixes"), [("layers:2", 2e-3, ()), ("static", 3e-2, (8, 32))])
def test_the_trainer_starts_at_the_loops_loss_and_it_goes_down(opened, tmp_path, spec, rate, prefixes):
    student = start(opened, spec)
    before = copy.deepcopy(student).eval()
    loss = AlignmentLoss(student, prefixes=prefixes)
    seen = []
    loss.register_forward_hook(lambda _, inputs, out: seen.append((inputs[1].clone(), float(out.detach()))))
    trainer, logged = train(student, loss, opened.as_dataset(), tmp_path, rate)
    assert seen[0][1] == pytest.approx(logged[0], abs=1e-4)  # the trainer rounds what it logs

    labels = seen[0][0]
    vectors = torch.from_numpy(opened.vectors(range(len(opened))))
    rows = torch.cdist(labels, vectors).argmin(dim=1).numpy()
    assert torch.equal(vectors[rows], labels)  # the teacher's vectors came through untouched
    tokens = Tokens.of(before, list(opened.as_dataset()["text"]))
    with torch.no_grad():
        vectors = before(tokens.features(tokens.ids(rows)))["sentence_embedding"].float()
    value = Objective("squared_l2", prefixes)(vectors, labels) if prefixes else alignment_loss(vectors, labels)
    assert seen[0][1] == pytest.approx(float(value), rel=1e-4)  # the batch is padded the same, in another order

    assert np.mean(logged[-10:]) < 0.9 * np.mean(logged[:10])
    card = trainer.model.model_card_data
    assert "AlignmentLoss" in str(card.train_datasets)
    assert '"metric": "squared_l2"' in str(card.train_datasets)


def test_the_model_card_says_metric_prefixes_and_normalisation(opened):
    student = start(opened, "static")
    said = AlignmentLoss(student, "cosine", prefixes=[8, 32]).get_config_dict()
    assert said == {"metric": "cosine", "prefixes": [8, 32], "normalized": True}
    plain = SentenceTransformer(modules=[student[0]], device="cpu")
    assert AlignmentLoss(plain).get_config_dict()["normalized"] is False


def features(student, texts=("w1 w2", "w3")):
    return student.preprocess(list(texts))


def test_labels_of_half_precision_are_compared_as_float32(opened):
    student = start(opened, "static")
    labels = torch.from_numpy(opened.vectors([0, 1])).half()
    value = AlignmentLoss(student)([features(student)], labels)
    assert value.dtype == torch.float32
    assert torch.equal(value, AlignmentLoss(student)([features(student)], labels.float()))


def test_misuse_is_refused_with_what_to_do(opened):
    student = start(opened, "static")
    loss = AlignmentLoss(student)
    with pytest.raises(ShapeMismatch, match=r"have shape \(2, 32\), the labels \(2, 48\): .*build_student"):
        loss([features(student)], torch.ones(2, 48))
    with pytest.raises(ShapeMismatch, match=r"the labels \(2,\)"):
        loss([features(student)], torch.ones(2))
    with pytest.raises(UsageError, match=r"2 text columns and a label, expected 1 .*as_dataset"):
        loss([features(student), features(student)], torch.ones(2, 32))
    with pytest.raises(UsageError, match="1 text columns and no label"):
        loss([features(student)], None)
    with pytest.raises(RecipeError, match="prefix 64, the vectors have 32 dims"):
        AlignmentLoss(student, prefixes=[16, 64])


LOSSES = {
    "RelationalLoss": ("relational_loss", {}),
    "ListwiseKLLoss": ("listwise_kl_loss", {"temperature": 0.2}),
    "ContrastiveLoss": ("contrastive_loss", {"temperature": 0.2}),
    "RelativeSimilarityLoss": ("relative_similarity_loss", {"margin": 0.1}),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_a_batch_train_in_the_trainer(opened, tmp_path, name):
    function, options = LOSSES[name]
    student = start(opened, "static")
    loss = getattr(training, name)(student, **options)
    labels = torch.from_numpy(opened.vectors(range(6)))
    texts = list(opened.as_dataset()["text"])[:6]
    with torch.no_grad():
        value = loss([features(student, texts)], labels)
        vectors = student(features(student, texts))["sentence_embedding"]
    assert value == getattr(torch_ops, function)(vectors, labels, **options)
    assert loss.get_config_dict().items() >= options.items()
    _, logged = train(student, loss, opened.as_dataset(), tmp_path, 3e-2)
    assert np.mean(logged[-10:]) < 0.9 * np.mean(logged[:10])


@pytest.mark.parametrize(("name", "columns"), [("MarginMSELoss", 3), ("ScoreMSELoss", 2)])
def test_losses_of_a_cross_encoders_scores_train_in_the_trainer(opened, tmp_path, name, columns):
    student = start(opened, "static")
    texts = list(opened.as_dataset()["text"])[:64]
    vectors = opened.vectors(range(64)).astype(np.float64)
    random = np.random.default_rng(0)
    rows = random.integers(0, 64, (128, columns))
    sides = [vectors[rows[:, column]] for column in range(columns)]
    near = (sides[0] * sides[1]).sum(1)
    labels = near - (sides[0] * sides[2]).sum(1) if columns == 3 else near
    dataset = Dataset.from_dict(
        {f"text{column}": [texts[row] for row in rows[:, column]] for column in range(columns)}
        | {"label": labels.tolist()}
    )
    loss = getattr(training, name)(student)
    _, logged = train(student, loss, dataset, tmp_path, 3e-2)
    assert np.mean(logged[-10:]) < 0.7 * np.mean(logged[:10])
    with pytest.raises(
        UsageError, match=rf"1 text columns and labels of shape \(2,\), expected {columns} text columns"
    ):
        loss([features(student)], torch.ones(2))
    with pytest.raises(UsageError, match=rf"{columns} text columns and labels of shape \(2, 32\), expected"):
        loss([features(student)] * columns, torch.ones(2, 32))


@pytest.mark.parametrize("name", ["ListwiseKLLoss", "RelativeSimilarityLoss"])
def test_a_text_alone_as_the_last_batch_has_it_costs_nothing(opened, name):
    student = start(opened, "static")
    value = getattr(training, name)(student)([features(student, ["alone"])], torch.from_numpy(opened.vectors([0])))
    value.backward()
    assert value == 0
    assert all(not parameter.grad.any() for parameter in student.parameters() if parameter.grad is not None)


def test_options_are_refused_before_the_first_batch(opened):
    student = start(opened, "static")
    for name, option, wrong in (
        ("ListwiseKLLoss", "temperature", 0),
        ("ContrastiveLoss", "temperature", -1.0),
        ("RelativeSimilarityLoss", "margin", -0.1),
    ):
        with pytest.raises(ValueError, match=f"{option} {wrong}: expected a number"):
            getattr(training, name)(student, **{option: wrong})
    with pytest.raises(TypeError, match="margin is 'x', expected a number"):
        training.RelativeSimilarityLoss(student, "x")
    with pytest.raises(TypeError, match="expected whole numbers"):
        AlignmentLoss(student, prefixes=[16.5])
