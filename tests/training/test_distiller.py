"""Real runs of a tiny real model: made here with random weights, so that no hub is needed."""

import json
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra: train)")

import leafkit.training.distiller as distiller
import leafkit.training.loop as loop  # after the skip
from leafkit.errors import (
    CorruptData,
    InputError,
    RecipeError,
    SpaceMismatch,
    TrainingStopped,
    UnknownStudent,
    UsageError,
)  # fmt: skip
from leafkit.export import export_router
from leafkit.index import Index
from leafkit.store import EmbeddingStore, Row, embed_texts
from leafkit.students import open_encoder, open_student, pooled_vectors, save_student, student_rotation
from leafkit.teachers import open_teacher
from leafkit.training import distil, preset
from leafkit.training.gates import require_learning
from tests import tiny


@pytest.fixture(scope="session")
def leaf(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("leaves") / "leaf"
    report = distil(preset("layers:2", data=[store], epochs=12, cycles=1, learning_rate=1e-3), out)
    losses = [loss for _, loss in _losses(out)]
    assert np.mean(losses[-9:]) < 0.8 * np.mean(losses[:9])  # of trained rows: 270 texts teach nothing about others
    assert min(report.cosine_start, report.cosine_end) > 0.3
    assert not out.with_name("leaf.run").exists()
    return out


def test_a_static_leaf_comes_close_and_is_plain(store, tmp_path):
    report = distil(preset("static", data=[store], epochs=3), tmp_path / "static")
    assert report.cosine_end > 0.3
    encoder = open_student(tmp_path / "static")
    assert encoder.encode(["w1 w2"], "query").shape == (1, 32)


def test_the_leaf_loads_where_leafkit_is_not_and_gives_the_same_vectors(leaf, teacher_folder, tmp_path):
    export_router(leaf, teacher_folder, tmp_path / "pair")
    queries, documents = ["w1 w2 w3"], ["w4 w5", "w6"]
    code = f"""
import sys; sys.modules["leafkit"] = None
import numpy as np
from sentence_transformers import SentenceTransformer
leaf, pair = SentenceTransformer({str(leaf)!r}), SentenceTransformer({str(tmp_path / "pair")!r})
np.savez({str(tmp_path / "out.npz")!r},
    leaf_query=leaf.encode_query({queries}), leaf_document=leaf.encode_document({documents}),
    query=pair.encode_query({queries}), document=pair.encode_document({documents}))
"""
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], check=True, env={"HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"}
    )
    out = np.load(tmp_path / "out.npz")
    student, teacher = open_student(leaf, precision="float32"), open_teacher(teacher_folder, precision="float32")
    np.testing.assert_allclose(out["leaf_query"], student.encode(queries, "query"), atol=1e-5)
    np.testing.assert_allclose(out["leaf_document"], student.encode(documents, "document"), atol=1e-5)
    np.testing.assert_allclose(out["query"], student.encode(queries, "query"), atol=1e-5)
    np.testing.assert_allclose(out["document"], teacher.encode(documents, "document"), atol=1e-5)
    with pytest.raises(UsageError, match="is there already"):
        export_router(leaf, teacher_folder, tmp_path / "pair")


def test_a_recipe_with_every_option_trains(store, tmp_path):
    recipe = preset(
        "layers:2", data=[{"store": str(store), "weight": 1.5}], epochs=3, prefixes=[8, 16], ema=0.9, layer_decay=0.8,
        projection_factor=2.0, kind_weights={"query": 2.0}, rotate="pca", objective="cosine", learning_rate=1e-3,
        normalized=False, whitened=True, start_share=0.5, gates={"every": 5},
    )  # fmt: skip
    report = distil(recipe, tmp_path / "leaf")
    losses = [loss for _, loss in _losses(tmp_path / "leaf")]
    assert np.mean(losses[-9:]) < np.mean(losses[:9])
    assert report.best_step in range(0, report.steps + 1, 5) or report.best_step == report.steps


def test_what_is_written_is_evened_out_and_what_is_trained_is_not(store, tmp_path):
    recipe = preset(
        "layers:1", data=[store], epochs=1, whitened=True, learning_rate=1e-3, ema=0.9, gates={"every": 999}
    )
    of_whitened = distil(recipe, tmp_path / "whitened")
    of_linear = distil(recipe.model_copy(update={"whitened": False}), tmp_path / "linear")
    assert vars(of_whitened) == vars(of_linear) | {name: vars(of_whitened)[name] for name in ("folder", "seconds")}
    assert _losses(tmp_path / "whitened") == _losses(tmp_path / "linear")
    evened, linear = (open_student(tmp_path / name).model for name in ("whitened", "linear"))
    for one, other in zip(evened[0].parameters(), linear[0].parameters(), strict=True):
        assert torch.equal(one, other)
    assert not evened[-2].linear.bias.any()
    assert linear[-2].linear.bias.any()
    left, _, right = torch.linalg.svd(linear[-2].linear.weight.detach(), full_matrices=False)
    turned = torch.linalg.solve(left @ right, evened[-2].linear.weight.detach())  # what comes before the turn
    torch.testing.assert_close(turned, turned.T, atol=1e-4, rtol=1e-4)
    assert torch.linalg.eigvalsh(turned).min() > 0
    rows = tiny.texts(300)
    with pooled_vectors(linear) as seen:
        linear.encode([row.text for row in rows])
    x = np.concatenate(seen)
    largest = [np.linalg.norm(y, 2) ** 2 / np.linalg.norm(y) ** 2 for y in (x, x @ turned.numpy())]
    assert largest[1] < 0.9 * largest[0]


@pytest.mark.parametrize("spec", ["layers:1", "static"])
def test_a_leaf_may_be_drawn_to_its_start(store, spec, tmp_path):
    recipe = preset(spec, data=[store], epochs=1, learning_rate=1e-3, whitened=False)
    weights = {}
    for name, fields in {"end": {}, "start": {"learning_rate": 1e-12}, "drawn": {"start_share": 0.25}}.items():
        distil(recipe.model_copy(update=fields), tmp_path / name)
        weights[name] = dict(open_student(tmp_path / name).model.named_parameters())
    assert any(not torch.equal(weights["end"][name], start) for name, start in weights["start"].items())
    for name, drawn in weights["drawn"].items():
        torch.testing.assert_close(drawn, 0.75 * weights["end"][name] + 0.25 * weights["start"][name])


def test_a_token_table_is_written_evened_out(store, tmp_path):
    recipe = preset("static", data=[store], epochs=1)
    for whitened in (True, False):
        distil(recipe.model_copy(update={"whitened": whitened}), tmp_path / str(whitened))
    evened, plain = (open_student(tmp_path / str(whitened)).model[0].embedding.weight for whitened in (True, False))
    power = torch.linalg.lstsq(plain.detach().double(), evened.detach().double()).solution
    torch.testing.assert_close(power, power.T, atol=1e-3, rtol=1e-3)
    assert torch.linalg.cond(power) > 1.1


@pytest.mark.parametrize("spec", ["layers:1", "static"])
def test_a_leaf_that_was_evened_out_is_trained_further_from_a_fit(store, spec, tmp_path):
    recipe = preset(spec, data=[store], epochs=4, learning_rate=1e-3, whitened=True)
    first = distil(recipe, tmp_path / "first")
    second = distil(recipe.model_copy(update={"student": str(tmp_path / "first")}), tmp_path / "second")
    assert second.cosine_start > first.cosine_end - 0.05
    written = open_student(tmp_path / "first")
    rows = tiny.texts(300)
    target = EmbeddingStore.open(store)
    given = np.concatenate([written.encode([row.text], row.kind) for row in rows])
    wanted = np.concatenate([target.lookup([row.text], row.kind) for row in rows])
    assert (given * wanted).sum(axis=1).mean() < first.cosine_end  # what is written lies further away


def test_a_leaf_that_cannot_be_evened_out_is_refused_before_it_is_trained(store, teacher_folder, tmp_path):
    teacher = open_teacher(teacher_folder)
    save_student(teacher.model, teacher.space, tmp_path / "odd")
    recipe = preset(str(tmp_path / "odd"), data=[store], epochs=1, whitened=True)
    with pytest.raises(RecipeError, match=r"no linear projection \(Dense\) and is no token table .* take false"):
        distil(recipe, tmp_path / "leaf")
    assert not (tmp_path / "leaf.run").exists()
    distil(recipe.model_copy(update={"whitened": None}), tmp_path / "leaf")
    assert len(open_student(tmp_path / "leaf").model) == 3


def test_the_development_collection_is_judged_by_what_would_be_written(store, tmp_path):
    judged = []

    class Development:
        def prepare(self, folder, rotation):
            return {}

        def judge(self, student):
            judged.append(student.model[-2].linear.weight.detach().clone())
            assert not student.model[-2].linear.bias.any()
            return {"ndcg_at_10_asymmetric": 0.5, "ndcg_at_10_symmetric": 0.5}

    gates = {"every": 999, "development": str(tmp_path)}
    recipe = preset("layers:1", data=[store], epochs=0.5, learning_rate=1e-3, gates=gates)
    distil(recipe.model_copy(update={"whitened": True}), tmp_path / "leaf", development=Development())
    assert torch.equal(judged[-1], open_student(tmp_path / "leaf").model[-2].linear.weight)


def test_whitening_is_refused_where_lengths_mean_something(tmp_path):
    folder = tiny.save_teacher(tmp_path / "t", normalize=False, similarity="dot")
    teacher = open_teacher(folder)
    embed_texts(teacher, tiny.texts(60), EmbeddingStore.create(tmp_path / "dots", teacher.space, model=str(folder)))
    with pytest.raises(RecipeError, match="mean something in this space: take false"):
        distil(preset("layers:1", data=[tmp_path / "dots"], epochs=1, whitened=True), tmp_path / "leaf")
    assert not (tmp_path / "leaf.run").exists()


def test_the_ranking_term_moves_the_weights_and_falls(store, tmp_path):
    recipe = preset("layers:1", data=[store], epochs=3, ranking=0.4, learning_rate=1e-3)
    distil(recipe, tmp_path / "whole")
    distil(recipe.model_copy(update={"ranking": 0.0}), tmp_path / "plain")
    weights = [open_student(tmp_path / name).model[-2].linear.weight for name in ("whole", "plain")]
    assert not torch.equal(*weights)
    losses = [loss for _, loss in _losses(tmp_path / "whole")]
    assert np.mean(losses[-9:]) < np.mean(losses[:9])


def test_queries_alone_are_ranked_among_themselves(store, tmp_path):
    data = [{"store": str(store), "kinds": ["query"]}]
    distil(preset("layers:1", data=data, epochs=3, ranking=0.4, learning_rate=1e-3), tmp_path / "leaf")
    losses = [loss for _, loss in _losses(tmp_path / "leaf")]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


def test_the_leaf_is_the_best_gates(store, tmp_path, monkeypatch):
    """A run whose gates go up and down: what is written is the student of the highest."""
    scores = iter([0.5, 0.1, 0.9, 0.2, 0.3, 0.4, 0.2, 0.1, 0.3, 0.2, 0.1])
    kept = {}

    def gated(self):
        weight = self.model[-2].linear.weight.detach().clone()
        score = next(scores, 0.1)
        kept[score] = weight
        return score

    monkeypatch.setattr(loop.Loop, "_cosine", gated)
    distil(preset("layers:1", data=[store], epochs=2, gates={"tolerance": 1.0}), tmp_path / "leaf")
    written = open_student(tmp_path / "leaf").model[-2].linear.weight
    assert torch.equal(written, kept[0.9])


def test_a_run_that_falls_below_its_start_is_stopped_as_broken(store, tmp_path):
    recipe = preset("layers:1", data=[store], epochs=40, cycles=1, learning_rate=30.0, gates={"tolerance": 0.01})
    with pytest.raises(
        TrainingStopped, match=r"of the run the held-out cosine is -?0\.\d+, below the linear start's 0\."
    ):
        distil(recipe, tmp_path / "leaf")
    assert not (tmp_path / "leaf").exists()


@pytest.mark.parametrize(("progress", "step", "stopped"), [(0.5, 100, False), (0.05, 500, False), (0.5, 500, True)])
def test_a_dip_in_the_first_steps_is_borne(progress, step, stopped):
    with pytest.raises(TrainingStopped) if stopped else nullcontext():
        require_learning(0.76, 0.63, progress=progress, step=step, tolerance=0.05)
    require_learning(0.76, 0.72, progress=progress, step=step, tolerance=0.05)
    with pytest.raises(TrainingStopped, match="not finite"):
        require_learning(0.76, float("nan"), progress=progress, step=step, tolerance=0.05)


def test_the_rows_of_batches_whose_loss_is_not_finite_are_kept(store, tmp_path, monkeypatch):
    monkeypatch.setattr(loop.Loop, "_step", lambda self, module, batch, taken: (float("nan"), float("nan")))
    with pytest.raises(TrainingStopped, match="not finite 3 times in a row, last at step 3"):
        distil(preset("layers:1", data=[store], epochs=1), tmp_path / "leaf")
    batches = json.loads((tmp_path / "leaf.run" / "not-finite.json").read_text())
    assert [batch["step"] for batch in batches] == [1, 2, 3]
    row = batches[0]["rows"][0]
    opened = EmbeddingStore.open(store)
    stored = list(opened.rows())[row["row"]]
    assert (row["store"], row["kind"], row["text"]) == (
        str(store),
        stored.kind,
        opened.space.prompts.of(stored.kind) + stored.text,
    )


def test_a_row_that_is_no_vector_is_named_before_the_first_step(store, tmp_path):
    source = EmbeddingStore.open(store)
    vectors = source.vectors(np.arange(len(source)))
    vectors[7] *= 2
    bad = EmbeddingStore.create(tmp_path / "bad.store", source.space, model=source.model)
    bad.add(list(source.rows()), vectors)
    with pytest.raises(InputError, match=r"bad.store: row 7, the vector of '.*', has norm 2, expected 1"):
        distil(preset("layers:1", data=[tmp_path / "bad.store"], epochs=1), tmp_path / "leaf")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.store"]  # nothing fitted to it is left


REFUSED = [
    ({"prefixes": list(range(1, 40))}, "39 prefixes, the vectors have 32 dims"),
    ({"prefixes": [64]}, "prefix 64, the vectors have 32 dims"),
    ({"prefixes": [8, 8]}, "prefix 8 is named 2 times"),
    ({"data": ()}, "no data"),
    ({"gates": {"development": "scifact"}}, "give that collection as development="),
]


@pytest.mark.parametrize(("fields", "says"), REFUSED)
def test_a_recipe_that_does_not_fit_its_data_is_refused_and_leaves_nothing(store, tmp_path, fields, says):
    with pytest.raises(RecipeError, match=says):
        distil(preset("layers:1", **{"data": [store], "epochs": 1} | fields), tmp_path / "leaf")
    assert list(tmp_path.iterdir()) == []


def test_a_weight_of_less_than_a_text_is_refused(store, tmp_path):
    with pytest.raises(RecipeError, match="weight 0.001 of 270 texts is less than one text an epoch"):
        distil(preset("layers:1", data=[{"store": str(store), "weight": 0.001}], epochs=1), tmp_path / "leaf")
    assert list(tmp_path.iterdir()) == []


def test_what_has_appeared_at_the_output_is_not_replaced(store, tmp_path, monkeypatch):
    recipe, train = preset("layers:1", data=[store], epochs=1), loop.Loop.train

    def slow(self):
        (tmp_path / "leaf").mkdir()
        (tmp_path / "leaf" / "notes.txt").write_text("mine")
        return train(self)

    monkeypatch.setattr(loop.Loop, "train", slow)
    with pytest.raises(UsageError, match="has appeared since the run began"):
        distil(recipe, tmp_path / "leaf")
    assert (tmp_path / "leaf" / "notes.txt").read_text() == "mine"
    monkeypatch.undo()
    shutil.rmtree(tmp_path / "leaf")
    assert distil(recipe, tmp_path / "leaf").steps == 9


def test_a_turned_space_keeps_scores_and_can_be_cut(store, teacher_folder, tmp_path):
    leaf = tmp_path / "leaf"
    distil(preset("layers:2", data=[store], epochs=1, rotate="pca"), leaf)
    rotation, student = student_rotation(leaf), open_student(leaf)
    opened = EmbeddingStore.open(store)
    assert student.space == rotation.space(opened.space)
    plain = opened.vectors(np.arange(len(opened)))
    turned = rotation.turn(plain)
    np.testing.assert_allclose(turned @ turned.T, plain @ plain.T, atol=1e-5)
    carried = (turned**2).sum(0) / (turned**2).sum()
    assert carried[:4].sum() > (plain**2).sum(0)[np.argsort(-(plain**2).sum(0))][:4].sum() / (plain**2).sum()
    teacher = open_encoder(teacher_folder, student.space, whose="leaf", rotation=rotation, precision="float32")
    texts = [row.text for row in opened.rows() if row.kind == "document"][:3]
    unturned = open_teacher(teacher_folder, precision="float32").encode(texts, "document")
    np.testing.assert_allclose(teacher.encode(texts, "document"), rotation.turn(unturned), atol=1e-5)
    index = Index.from_store(opened, tmp_path / "index", rotation=rotation)
    assert index.space == student.space
    with pytest.raises(SpaceMismatch, match="rotation"):
        open_encoder(teacher_folder, student.space, whose="leaf")
    export_router(leaf, teacher_folder, tmp_path / "pair")
    from sentence_transformers import SentenceTransformer

    given = SentenceTransformer(str(tmp_path / "pair")).encode_document(texts)
    np.testing.assert_allclose(given, teacher.encode(texts, "document"), atol=1e-5)


class Stop(Exception):
    """Ends a run in the middle, as a kill would."""


def _losses(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if line["event"] == "step"]


def test_a_resumed_run_repeats_the_unbroken_one_bit_for_bit_case_04(store, tmp_path, monkeypatch):
    torch.set_num_threads(1)
    recipe = preset("layers:1", data=[store], epochs=2, held_out=8, checkpoint_minutes=1e-9)
    distil(recipe, tmp_path / "whole")
    step = loop.Loop._step
    for kill_at in (3, 11):
        count = 0

        def counted(self, module, rows, taken, kill_at=kill_at):
            nonlocal count
            count += 1
            if count == kill_at:
                raise Stop
            return step(self, module, rows, taken)

        out = tmp_path / f"broken-{kill_at}"
        monkeypatch.setattr(loop.Loop, "_step", counted)
        with pytest.raises(Stop):
            distil(recipe, out)
        monkeypatch.setattr(loop.Loop, "_step", step)
        with pytest.raises(RecipeError, match="learning_rate"):
            distil(recipe.model_copy(update={"learning_rate": 1.0}), out)
        assert not out.exists()
        distil(recipe, out)
        assert dict(_losses(out)) == dict(_losses(tmp_path / "whole"))
        weights = [(path / "3_Dense" / "model.safetensors").read_bytes() for path in (out, tmp_path / "whole")]
        assert weights[0] == weights[1]
        again = distil(recipe, out, resume=True)  # a finished run is left as it is
        assert again.steps == max(number for number, _ in _losses(out))
        with pytest.raises(UsageError, match="is there already"):
            distil(recipe, out)
        with pytest.raises(RecipeError, match="student 'layers:1', now 'static'"):
            distil(preset("static", data=[store], epochs=2), out, resume=True)


def test_a_run_cut_off_behind_its_last_step_tells_the_same_in_the_end(store, tmp_path, monkeypatch):
    recipe = preset("layers:1", data=[store], epochs=1, held_out=8)
    whole = distil(recipe, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(distiller, "save_student", lambda *_, **__: (_ for _ in ()).throw(Stop()))
        with pytest.raises(Stop):
            distil(recipe, tmp_path / "leaf")
    again = distil(recipe, tmp_path / "leaf")
    assert (again.steps, again.best_step) == (whole.steps, whole.best_step)
    assert again.cosine_end == pytest.approx(whole.cosine_end, abs=1e-6)


def test_a_broken_checkpoint_gives_way_to_the_one_before_or_stops_case_04(store, tmp_path, monkeypatch):
    recipe = preset("layers:1", data=[store], epochs=2, held_out=8, checkpoint_minutes=1e-9)
    _stopped_at(5, recipe, tmp_path / "leaf", monkeypatch)
    older, newest = sorted((tmp_path / "leaf.run" / "checkpoints").iterdir())
    for broken in (older, newest):
        whole = (broken / "training.pt").read_bytes()
        (broken / "training.pt").write_bytes(whole[: len(whole) // 2])
        if broken == older:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(loop.Loop, "train", lambda self: (_ for _ in ()).throw(Stop()))
                with pytest.raises(Stop):
                    distil(recipe, tmp_path / "leaf")
    with (
        pytest.warns(UserWarning, match=r"training.pt: expected .* bytes"),
        pytest.raises(CorruptData, match="training.pt"),
    ):
        distil(recipe, tmp_path / "leaf")


def test_a_run_that_other_texts_were_added_to_is_refused(store, tmp_path, monkeypatch):
    own = tmp_path / "texts.store"
    shutil.copytree(store, own)
    recipe = preset("layers:1", data=[own], epochs=2, held_out=8, checkpoint_minutes=1e-9)
    _stopped_at(4, recipe, tmp_path / "leaf", monkeypatch)
    opened = EmbeddingStore.open(own)
    opened.add([Row("w7 w7 w7 w7", "query", "new")], opened.vectors([0]))
    with pytest.raises(RecipeError, match="the texts are others"):
        distil(recipe, tmp_path / "leaf")


def test_texts_added_before_the_first_checkpoint_are_told_too(store, tmp_path, monkeypatch):
    own = tmp_path / "texts.store"
    shutil.copytree(store, own)
    recipe = preset("layers:1", data=[own], epochs=1, held_out=8)
    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "train", lambda self: (_ for _ in ()).throw(Stop()))
        with pytest.raises(Stop):
            distil(recipe, tmp_path / "leaf")
    opened = EmbeddingStore.open(own)
    opened.add([Row("w7 w7 w7 w7", "query", "new")], opened.vectors([0]))
    with pytest.raises(RecipeError, match="the texts are others now"):
        distil(recipe, tmp_path / "leaf")


def test_a_start_that_was_refused_leaves_nothing_in_the_way(store, tmp_path):
    with pytest.raises(UnknownStudent, match="layers:99: the base model has 3 layers"):
        distil(preset("layers:99", data=[store], epochs=0.1), tmp_path / "leaf")
    assert list(tmp_path.iterdir()) == []


def test_a_student_that_ends_in_nan_is_not_written(store, tmp_path):
    with pytest.raises(TrainingStopped, match="not finite"):
        distil(preset("layers:1", data=[store], epochs=0.3, learning_rate=1e30, held_out=8), tmp_path / "leaf")
    assert not (tmp_path / "leaf").exists()


def test_ctrl_c_ends_a_run_after_its_step_with_a_checkpoint_and_it_goes_on(store, tmp_path, monkeypatch):
    recipe = preset("layers:1", data=[store], epochs=2, held_out=8)
    step, count = loop.Loop._step, 0

    def interrupted(self, module, rows, taken):
        nonlocal count
        count += 1
        if count == 3:
            signal.raise_signal(signal.SIGINT)
        return step(self, module, rows, taken)

    monkeypatch.setattr(loop.Loop, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        distil(recipe, tmp_path / "leaf")
    assert [path.name for path in (tmp_path / "leaf.run" / "checkpoints").iterdir()] == ["step-00000003"]
    monkeypatch.setattr(loop.Loop, "_step", step)
    report = distil(recipe, tmp_path / "leaf")
    assert [number for number, _ in _losses(tmp_path / "leaf")] == list(range(1, report.steps + 1))


def _stopped_at(number, recipe, out, monkeypatch):
    step, count = loop.Loop._step, 0

    def counted(self, module, rows, taken):
        nonlocal count
        count += 1
        if count == number:
            raise Stop
        return step(self, module, rows, taken)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "_step", counted)
        with pytest.raises(Stop):
            distil(recipe, out)
