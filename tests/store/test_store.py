import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from leafkit.blocks import Blocks, blocks
from leafkit.errors import CorruptData, IndexLocked, InputError, ShapeMismatch, SpaceMismatch, TeacherError
from leafkit.space import EmbeddingSpace, Prompts, TeacherId
from leafkit.store import EmbeddingStore, Row, embed_texts, import_vectors
from leafkit.teachers import CallableTeacher

SPACE = EmbeddingSpace(TeacherId("hash", "1"), dim=8, normalized=True, prompts=Prompts("find: ", ""))


def unit(texts):
    rows = np.stack([np.random.default_rng(list(text.encode())).normal(size=8) for text in texts])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Counting(CallableTeacher):
    def __init__(self, function=unit, space=SPACE):
        self.seen = []
        super().__init__(lambda texts: (self.seen.extend(texts), function(texts))[1], space)


def rows(count, kind="document"):
    return [Row(f"text {number}", kind, str(number)) for number in range(count)]


def test_a_text_is_embedded_once_per_kind_and_with_its_prompt_case_01(tmp_path):
    teacher, store = Counting(), EmbeddingStore.create(tmp_path / "s", SPACE)
    texts = [Row("moss", "query", "1"), Row("moss", "document", "2"), Row("moss", "query", "3")]
    report = embed_texts(teacher, texts, store)
    assert sorted(teacher.seen) == ["find: moss", "moss"]
    assert (report.embedded, report.repeated, len(store)) == (2, 1, 2)
    again = embed_texts(teacher, texts, EmbeddingStore.open(tmp_path / "s"))
    assert (again.embedded, again.known) == (0, 3)
    np.testing.assert_allclose(store.lookup(["moss"], "query"), unit(["find: moss"]), atol=1e-6)


def test_vectors_come_back_in_the_order_that_is_asked(tmp_path):
    store = EmbeddingStore.create(tmp_path / "s", SPACE)
    for first in (0, 10, 20):  # three blocks
        part = rows(30)[first : first + 10]
        store.add(part, unit([row.text for row in part]).astype(np.float32))
    opened = EmbeddingStore.open(tmp_path / "s")
    opened.verify()
    wanted = [f"text {number}" for number in (29, 0, 15, 15)]
    np.testing.assert_allclose(opened.lookup(wanted, "document"), unit(wanted), atol=1e-6)
    assert list(opened.rows()) == rows(30)


def test_a_bad_row_is_named_and_what_came_before_is_kept_case_28(tmp_path, cases):
    for name, says in (("teacher_rows", "NaN"), ("teacher_rows_inf", "infinite"), ("teacher_rows_short", "norm 0.3")):
        bad = np.load(cases / "28-nan-from-the-model" / f"{name}.npy")
        space = EmbeddingSpace(TeacherId("t", "1"), bad.shape[1], True)
        good = np.eye(bad.shape[1], dtype=np.float32)[:1]
        store = EmbeddingStore.create(tmp_path / name, space)
        embed_texts(CallableTeacher(lambda texts, good=good: good[: len(texts)], space), rows(1), store)
        broken = CallableTeacher(lambda texts, bad=bad: bad[: len(texts)], space)
        texts = [Row(f"other {number}", "document", f"id-{number}") for number in range(len(bad))]
        with pytest.raises(TeacherError, match=rf"row 2 \(text 'id-2', number 2 of the input\) .*{says}"):
            embed_texts(broken, texts, store)
        assert len(EmbeddingStore.open(tmp_path / name)) == 1


def test_a_killed_run_keeps_what_it_saved_and_goes_on(tmp_path):
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.store.test_store import *
import leafkit.store.embedding as embedding
embedding.SAVE_EVERY_S = 0.0
calls = []
def function(texts):
    calls.append(1)
    if len(calls) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return unit(texts)
embed_texts(CallableTeacher(function, SPACE), rows(500), EmbeddingStore.create({str(tmp_path / "s")!r}, SPACE))
"""
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == -signal.SIGKILL
    store = EmbeddingStore.open(tmp_path / "s")
    assert len(store) == 3 * 64
    report = embed_texts(Counting(), rows(500), store)
    assert (report.known, report.embedded) == (192, 308)


def test_an_interrupt_behind_the_commit_does_not_bring_rows_twice(tmp_path, monkeypatch):
    store = EmbeddingStore.create(tmp_path / "s", SPACE)
    sweep, swept = Blocks._sweep, []

    def interrupted(self):
        sweep(self)
        swept.append(1)
        if len(swept) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Blocks, "_sweep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embed_texts(Counting(), rows(100), store)
    again = EmbeddingStore.open(tmp_path / "s")
    embed_texts(Counting(), rows(300), again)
    texts = [row.text for row in rows(300) if row.kind == "document"]
    assert [row.text for row in again.rows()].count(texts[0]) == 1
    np.testing.assert_array_equal(
        EmbeddingStore.open(tmp_path / "s").lookup(texts, "document"), Counting().encode(texts, "document")
    )


def test_many_small_saves_leave_few_blocks_and_every_row_its_vector(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "MERGED_ROWS", 64)
    store = EmbeddingStore.create(tmp_path / "s", SPACE)
    texts = rows(300)
    early = None
    for first in range(0, 300, 3):
        part = texts[first : first + 3]
        store.add(part, np.concatenate([Counting().encode([row.text], row.kind) for row in part]))
        early = early or EmbeddingStore.open(tmp_path / "s")
    assert len(store.manifest.blocks) < 300 / 64 + 2 * 6
    assert len(list((tmp_path / "s" / "blocks").iterdir())) == len(store.manifest.blocks)
    for opened in (store, EmbeddingStore.open(tmp_path / "s")):
        assert [(row.kind, row.text) for row in opened.rows()] == [(row.kind, row.text) for row in texts]
        for row, vector in zip(texts, opened.vectors(range(300)), strict=True):
            np.testing.assert_array_equal(vector, opened.lookup([row.text], row.kind)[0])
            np.testing.assert_array_equal(vector, Counting().encode([row.text], row.kind)[0])
    assert [row.text for row in early.rows()] == [row.text for row in texts[:3]]  # what was opened stays readable


def test_two_writers_do_not_meet(tmp_path):
    store = EmbeddingStore.create(tmp_path / "s", SPACE)

    def function(texts):
        with pytest.raises(IndexLocked, match="another process"):
            embed_texts(Counting(), rows(1), EmbeddingStore.open(tmp_path / "s"))
        return unit(texts)

    assert embed_texts(CallableTeacher(function, SPACE), rows(1), store).embedded == 1


def test_a_store_of_another_teacher_is_refused(tmp_path):
    EmbeddingStore.create(tmp_path / "s", SPACE)
    other = EmbeddingSpace(TeacherId("hash", "2"), dim=8, normalized=True, prompts=SPACE.prompts)
    with pytest.raises(SpaceMismatch, match=r"teacher: hash@1 .* hash@2"):
        EmbeddingStore.open_or_create(tmp_path / "s", other)
    with pytest.raises(SpaceMismatch, match="made by teacher-.*, the encoder now is leaf"):
        EmbeddingStore.open_or_create(tmp_path / "s", SPACE, made_by="leaf")


@pytest.fixture
def small_store(tmp_path):
    store = EmbeddingStore.create(tmp_path / "s", SPACE)
    embed_texts(Counting(), rows(20), store)
    return tmp_path / "s"


@pytest.mark.parametrize("name", ["vectors.npy", "rows.parquet"])
def test_a_file_cut_at_any_place_or_changed_is_found_on_open(small_store, name):
    (path,) = small_store.glob(f"blocks/*/{name}")
    whole = path.read_bytes()
    for size in sorted({0, 1, 60, len(whole) // 2, len(whole) - 1}):
        path.write_bytes(whole[:size])
        with pytest.raises(CorruptData, match=rf"expected {len(whole)} bytes, found {size} bytes"):
            EmbeddingStore.open(small_store)
    path.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
    with pytest.raises(CorruptData, match="XXH3-128"):
        EmbeddingStore.open(small_store)
    path.unlink()
    with pytest.raises(CorruptData, match="no file"):
        EmbeddingStore.open(small_store)


def test_vectors_of_case_16_in_a_blocks_place_are_refused(small_store, cases):
    (path,) = small_store.glob("blocks/*/vectors.npy")
    for damaged in (cases / "16-truncated-vectors").glob("*.npy"):
        shutil.copy(damaged, path)
        with pytest.raises(CorruptData, match="bytes"):
            EmbeddingStore.open(small_store)
        path.chmod(0o644)


def test_a_newer_version_is_refused_by_its_number_case_18(small_store):
    manifest = small_store / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"version": 1', '"version": 99'))
    with pytest.raises(CorruptData, match=r"expected version 1 .*found version 99"):
        EmbeddingStore.open(small_store)


def test_a_reader_keeps_its_answers_while_a_writer_adds(small_store):
    reader = EmbeddingStore.open(small_store)
    before = reader.vectors(range(20))
    embed_texts(Counting(), rows(40), EmbeddingStore.open(small_store))
    shutil.rmtree(small_store / "blocks")
    np.testing.assert_array_equal(reader.vectors(range(20)), before)
    assert len(list(reader.rows())) == 20


def test_imported_rows_are_paired_checked_and_kept_in_their_dtype(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"text": "a", "kind": "query"}\n{"text": "b"}\n')
    np.save(tmp_path / "v.npy", unit(["a", "b"]).astype(np.float16))
    report = import_vectors([tmp_path / "t.jsonl"], [tmp_path / "v.npy"], tmp_path / "s", SPACE)
    assert report.embedded == 2
    store = EmbeddingStore.open(tmp_path / "s")
    np.testing.assert_allclose(store.lookup(["a"], "query"), unit(["a"]), atol=1e-3)
    np.save(tmp_path / "v3.npy", unit(["a", "b", "c"]).astype(np.float32))
    with pytest.raises(ShapeMismatch, match=r"\(3, 8\).* 2 texts"):
        import_vectors([tmp_path / "t.jsonl"], [tmp_path / "v3.npy"], tmp_path / "s", SPACE)
    np.save(tmp_path / "v.npy", np.array([[1] + [0] * 7, [0.2] + [0] * 7], np.float32))
    with pytest.raises(InputError, match="row 1 .* norm 0.2"):
        import_vectors([tmp_path / "t.jsonl"], [tmp_path / "v.npy"], tmp_path / "new", SPACE)
    assert not (tmp_path / "new").exists()
