"""Real runs of a tiny real model: made here with random weights, so that no hub is needed."""

import json
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra: train)")

import leafkit.training.loop as loop  # noqa: E402  # after the skip
from leafkit.errors import CorruptData, RecipeError, TrainingStopped, UnknownStudent, UsageError  # noqa: E402
from leafkit.export import export_router  # noqa: E402
from leafkit.store import EmbeddingStore, Row  # noqa: E402
from leafkit.students import open_student  # noqa: E402
from leafkit.teachers import open_teacher  # noqa: E402
from leafkit.training import distil, preset  # noqa: E402


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

        def counted(self, module, rows, kill_at=kill_at):
            nonlocal count
            count += 1
            if count == kill_at:
                raise Stop
            return step(self, module, rows)

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

    def interrupted(self, module, rows):
        nonlocal count
        count += 1
        if count == 3:
            signal.raise_signal(signal.SIGINT)
        return step(self, module, rows)

    monkeypatch.setattr(loop.Loop, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        distil(recipe, tmp_path / "leaf")
    assert [path.name for path in (tmp_path / "leaf.run" / "checkpoints").iterdir()] == ["step-00000003"]
    monkeypatch.setattr(loop.Loop, "_step", step)
    report = distil(recipe, tmp_path / "leaf")
    assert [number for number, _ in _losses(tmp_path / "leaf")] == list(range(1, report.steps + 1))


def _stopped_at(number, recipe, out, monkeypatch):
    step, count = loop.Loop._step, 0

    def counted(self, module, rows):
        nonlocal count
        count += 1
        if count == number:
            raise Stop
        return step(self, module, rows)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "_step", counted)
        with pytest.raises(Stop):
            distil(recipe, out)
