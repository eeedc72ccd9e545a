"""Fill a store from texts: each once per kind, saved as it goes, so that a killed run goes on where it stopped."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from leafkit.blocks import writer_lock
from leafkit.errors import TeacherError
from leafkit.progress import OnProgress, Progress, silent
from leafkit.space import KINDS
from leafkit.store.store import EmbeddingStore, Row, TextLike, text_key
from leafkit.teachers import CountsTruncation, Teacher, checked_rows

WINDOW = 2048  # texts sorted by length together: enough to pad little, small enough to start at once
CALL = 64  # texts a call to the teacher: what a kill may lose beside SAVE_EVERY_S
PROBE = Row("leafkit", "query", "probe")  # kept in the store of a teacher that is known by its address alone
SAME = 0.999  # cosine of one text's vectors by one model: bfloat16 and other batches leave 0.9995 of it
SAVE_EVERY_S = 5.0  # a block costs two fsyncs, a few milliseconds


@dataclass(frozen=True)
class EmbedReport:
    """What ``embed_texts`` did.

    ``known`` texts were in the store before, ``repeated`` ones came again in this run, ``truncated`` ones were cut by
    the teacher's token limit (None where the teacher does not count them).
    """

    embedded: int
    known: int
    repeated: int
    truncated: int | None
    seconds: float


@dataclass
class Intake:
    """Tells texts that a store needs from those it has and those that came before in this run, and counts them."""

    store: EmbeddingStore
    known: int = 0
    repeated: int = 0
    own: set[bytes] = field(default_factory=set)

    def fresh(self, rows: Sequence[TextLike]) -> list[int]:
        """Places of the rows that are to be added."""
        places = []
        for place, row in enumerate(rows):
            key = text_key(row.kind, row.text)
            if key in self.own:
                self.repeated += 1
            elif self.store.holds(row.kind, row.text):
                self.known += 1
            else:
                self.own.add(key)
                places.append(place)
        return places


def embed_texts(
    teacher: Teacher,
    texts: Iterable[TextLike],
    store: EmbeddingStore,
    *,
    total: int = 0,
    on_progress: OnProgress = silent,
) -> EmbedReport:
    """Embed what the store does not hold yet.

    What is done is saved every five seconds, and when anything ends the run early: only a kill loses texts, and no
    more than those seconds' and the call in hand.

    Args:
        teacher: encoder of the store's space.
        texts: texts with kind and id, in any order; read as they are needed.
        store: where vectors go.
        total: how many texts there are, if known, for the progress.
        on_progress: told of every call, in texts.

    Raises:
        SpaceMismatch: the teacher is of another space than the store.
        TeacherError: a row is not a vector of the space, named with its text's id; or a teacher behind an address,
            whose contents no hash tells, gives another vector for a word than it gave when the store was made.
        IndexLocked: another process writes to the store.
    """
    store.space.require_compatible(teacher.space, ours=str(store.folder), theirs="the teacher")
    start, cut_before = time.monotonic(), _truncated(teacher)
    seen = embedded = 0
    intake, stream = Intake(store), iter(texts)
    with writer_lock(store.folder):
        store.refresh()
        if teacher.space.origin == "http":
            _require_same(teacher, store)
        while window := list(islice(stream, WINDOW)):
            fresh = [(seen + place, window[place]) for place in intake.fresh(window)]
            done = seen + len(window) - len(fresh)
            seen += len(window)
            for count in _embed_window(teacher, fresh, store):
                embedded += count
                done += count
                rate = embedded / max(time.monotonic() - start, 1e-9)
                on_progress(Progress("embed", done, max(total, seen), f"{rate:.1f} texts/s"))
    cut_after = _truncated(teacher)
    truncated = None if cut_before is None or cut_after is None else cut_after - cut_before
    return EmbedReport(embedded, intake.known, intake.repeated, truncated, time.monotonic() - start)


def _require_same(teacher: Teacher, store: EmbeddingStore) -> None:
    now = checked_rows(teacher.encode([PROBE.text], PROBE.kind), store.space, [PROBE.id])[0]
    if not store.holds(PROBE.kind, PROBE.text):
        store.add([PROBE], now[None])
        return
    (then,) = store.lookup([PROBE.text], PROBE.kind)
    cosine = float(then @ now / max(np.linalg.norm(then) * np.linalg.norm(now), 1e-12))
    if not cosine >= SAME:
        raise TeacherError(
            f"{teacher.space.teacher} gives another vector for {PROBE.text!r} than when {store.folder} was made"
            f" (cosine {cosine:.3f}, expected {SAME} or more): its model has changed. Choose another folder"
        )


def _embed_window(teacher: Teacher, fresh: list[tuple[int, TextLike]], store: EmbeddingStore) -> Iterable[int]:
    """Embed one window, longest texts first; gives the size of each call as it is done."""
    rows: list[TextLike] = []
    vectors: list[NDArray[np.float32]] = []
    saved_at = time.monotonic()

    def save() -> None:
        batch, parts = rows[:], vectors[:]
        rows.clear()  # before the commit: an interrupt behind it must not bring the same rows again
        vectors.clear()
        if batch:
            store.add(batch, np.concatenate(parts))

    try:
        for kind in KINDS:
            of_kind = sorted((pair for pair in fresh if pair[1].kind == kind), key=lambda pair: -len(pair[1].text))
            for first in range(0, len(of_kind), CALL):
                call = of_kind[first : first + CALL]
                out = teacher.encode([row.text for _, row in call], kind)
                names = [f"{row.id!r}, number {number} of the input" for number, row in call]
                vectors.append(checked_rows(out, store.space, names))
                rows.extend(row for _, row in call)
                if time.monotonic() - saved_at > SAVE_EVERY_S:
                    save()
                    saved_at = time.monotonic()
                yield len(call)
    finally:
        save()


def _truncated(teacher: Teacher) -> int | None:
    return teacher.truncated if isinstance(teacher, CountsTruncation) else None
