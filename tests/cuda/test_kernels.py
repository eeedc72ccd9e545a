"""Every kernel, on the emulation and on a GPU, against its definition: types, odd sizes, ties, NaN, thread orders."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra: train)")

from tests import reference  # after the skip

METRICS = ["squared_l2", "l2", "cosine", "huber"]
HALVES = {torch.bfloat16: 2**-8, torch.float16: 2**-11}
TYPES = {torch.float32: 0.0, **HALVES}


def vectors(rows, dim, seed=0, unit=False, apart=None):
    random = np.random.default_rng(1000 * rows + dim + seed)
    made = random.normal(size=(rows, dim))
    if apart is not None:
        made = apart + 0.4 * made
    if unit:
        made /= np.linalg.norm(made, axis=1, keepdims=True)
    return torch.tensor(made, dtype=torch.float32)


def pair(rows, dim, dtype=torch.float32, unit=False):
    teacher = vectors(rows, dim, unit=unit)
    student = vectors(rows, dim, seed=7, unit=unit, apart=teacher.numpy(force=True))
    return student.to(dtype), teacher.to(dtype)


def exactly(tensor):
    return tensor.float().numpy(force=True).astype(np.float64)


def error(found, expected):
    return np.linalg.norm(exactly(found) - expected) / max(np.linalg.norm(expected), 1e-9)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("rows", "dim", "widths"), [(1, 1, [1]), (3, 7, [2, 7]), (9, 40, [8, 17, 40]), (11, 72, [24, 64]), (8, 256, [256])]
)
def test_alignment(cuda, dtype, metric, rows, dim, widths):
    student, teacher = pair(rows, dim, dtype)
    weights = torch.linspace(0.5, 2, rows)
    shares = [0.3 + number for number in range(len(widths))]
    unit = metric != "huber"
    value, gradient = cuda.alignment_loss(student, teacher, metric, widths, shares, weights, unit, 0.7)

    def definition(s):
        return reference.aligned(s, exactly(teacher), metric, widths, shares, weights.numpy(force=True), unit, 0.7)

    assert value.item() == pytest.approx(definition(exactly(student)), rel=1e-5, abs=1e-6)
    assert gradient.dtype == (dtype if dtype == torch.bfloat16 else torch.float32)
    for row, column in {(0, 0), (rows - 1, dim - 1), (rows // 2, dim // 2), (rows - 1, widths[0] - 1)}:
        ends = []
        for step in (1e-6, -1e-6):
            moved = exactly(student)
            moved[row, column] += step
            ends.append(definition(moved))
        slope = (ends[0] - ends[1]) / 2e-6
        assert gradient[row, column].item() == pytest.approx(slope, rel=1e-4 + 2 * TYPES[dtype], abs=2e-6)


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("factor", [1e-18, 1e-6, 0.4, 3.0, 1e6, 1e15])
def test_directions_are_compared_whatever_the_lengths(cuda, factor, unit):
    student, teacher = pair(5, 70)
    student = student * factor
    metric, widths, shares = ("squared_l2", [33, 69], [0.25, 0.75]) if unit else ("cosine", [70], [1.0])
    value, gradient = cuda.alignment_loss(student, teacher, metric, widths, shares, None, unit, 1.0)
    wanted = reference.aligned(
        student.numpy(force=True), teacher.numpy(force=True), metric, widths, shares, np.ones(5), unit
    )
    assert value.item() == pytest.approx(wanted, rel=1e-5, abs=1e-6)
    double = student.double().requires_grad_()
    total = 0
    for width, share in zip(widths, shares, strict=True):
        cosines = torch.nn.functional.cosine_similarity(double[:, :width], teacher.double()[:, :width], eps=0.0)
        total = total + share * (2 if unit else 1) * (1 - cosines).mean()
    total.backward()
    assert error(gradient / gradient.abs().max(), (double.grad / gradient.abs().max()).numpy(force=True)) < 1e-4


def test_equal_and_zero_rows_have_the_gradients_that_are_stated(cuda):
    ones, zeros = torch.ones(2, 9), torch.zeros(2, 9)
    for student, teacher, metric, value in (
        (ones, ones, "l2", 0), (zeros, ones, "cosine", 1), (ones, zeros, "cosine", 1), (zeros, zeros, "squared_l2", 0),
    ):  # fmt: skip
        found, gradient = cuda.alignment_loss(student, teacher, metric, [4, 9], [0.5, 0.5], None, False, 1.0)
        assert found.item() == value
        assert not gradient.any()
    bad = torch.ones(3, 9)
    bad[1, 2] = torch.nan
    for metric in METRICS:
        assert cuda.alignment_loss(bad, torch.full((3, 9), 2.0), metric, [9], [1.0], None, False, 1.0)[0].isnan()


LOSSES = {
    "relational": lambda s, t, _: reference.relational_loss(s, t),
    "listwise_kl": reference.listwise_kl_loss,
    "contrastive": reference.contrastive_loss,
}


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("rows", "dim"), [(2, 3), (130, 33)])
def test_losses_of_a_batch(cuda, loss, dtype, rows, dim, exact):
    student, teacher = pair(rows, dim, dtype, unit=True)
    value, gradient = cuda.batch_loss(loss, student, teacher, 0.05, exact)
    expected, slopes = LOSSES[loss](exactly(student), exactly(teacher), 0.05)
    assert gradient.dtype == (dtype if dtype == torch.bfloat16 else torch.float32)
    assert value.item() == pytest.approx(expected, rel=1e-5 if exact else 2e-2, abs=1e-6 if exact else 1e-4)
    assert error(gradient, slopes) < (1e-5 if exact else 2e-2) + TYPES[dtype]


@pytest.mark.parametrize("loss", LOSSES)
def test_more_texts_than_a_chunk(cuda, loss):
    """1,024 columns are multiplied at once: the last of these is one of them."""
    student, teacher = pair(1025, 4, unit=True)
    value, gradient = cuda.batch_loss(loss, student, teacher, 0.5, True)
    expected, slopes = LOSSES[loss](exactly(student), exactly(teacher), 0.5)
    assert value.item() == pytest.approx(expected, rel=1e-5)
    assert error(gradient, slopes) < 2e-5


@pytest.mark.parametrize("row", [0, 992, 1023, 1024])
def test_nan_seen_in_one_chunk_is_not_lost_in_the_next(cuda, row):
    student, teacher = pair(1025, 2, unit=True)
    teacher[row, 0] = torch.nan
    value, gradient = cuda.batch_loss("contrastive", student, teacher, 0.5, True)
    assert value.isnan()
    assert gradient.isnan().any(1).all()


def test_a_text_alone_and_one_far_nearer_than_all_others(cuda):
    value, gradient = cuda.batch_loss("contrastive", *pair(1, 5, unit=True), 0.05, True)
    assert value.item() == 0
    assert not gradient.any()
    student = torch.eye(6) + 0.01
    value, gradient = cuda.batch_loss("contrastive", student, torch.eye(6) * 4, 0.5, True)
    expected, slopes = reference.contrastive_loss(exactly(student), exactly(torch.eye(6) * 4), 0.5)
    assert value.item() == pytest.approx(expected, rel=1e-4)
    assert error(gradient, slopes) < 1e-4


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_threads_changes_no_bit(cuda, order_threads, seed):
    student, teacher = pair(70, 20, unit=True)
    queries, documents = vectors(5, 24), vectors(300, 24)
    made = []
    for order in (99, seed):
        order_threads(order)
        made.append(
            [
                *cuda.batch_loss("listwise_kl", student, teacher, 0.05, False),
                *cuda.batch_loss("relational", student, teacher, 0.05, True),
                *cuda.alignment_loss(student, teacher, "cosine", [7, 20], [1.0, 1.0], None, True, 1.0),
                *cuda.search_topk(queries, documents, 9, parts=2),
            ]
        )
    for one, other in zip(*made, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("queries", "documents", "dim", "k"), [(1, 1, 1, 1), (3, 200, 33, 5), (20, 700, 8, 40)])
def test_search_of_float32(cuda, queries, documents, dim, k):
    asked, held = vectors(queries, dim), vectors(documents, dim, seed=3)
    held[documents // 2] = held[0]  # equal scores come in row order
    expected, wanted = reference.search_topk(asked.numpy(force=True), held.numpy(force=True), k)
    scores, rows = cuda.search_topk(asked, held, k, parts=3)
    np.testing.assert_array_equal(rows.numpy(force=True), wanted)
    np.testing.assert_array_equal(scores.numpy(force=True), expected.astype(np.float32))
    scores, rows = cuda.search_topk(asked, held, k, exact=False, parts=1)
    np.testing.assert_allclose(
        scores.numpy(force=True),
        expected,
        atol=reference.rounding_bound(asked.numpy(force=True), held.numpy(force=True)),
    )


@pytest.mark.parametrize(
    ("documents", "k", "parts"),
    [(33_000, 3, 257), (900, 100, 1), (2_500, 600, 1), (1_700, 600, 9)],
    ids=["more parts than threads", "a warp a list", "a block a list", "long lists merged"],
)
def test_lists_are_cut_as_often_as_need_be(cuda, documents, k, parts):
    """Scores that rise all pass the threshold, those that fall pass once, equal ones come in row order."""
    held = torch.linspace(1, 2, documents)[:, None]
    held[::7] = 1.5
    asked = torch.tensor([[1.0], [-1.0], [0.0]])
    expected, wanted = reference.search_topk(asked.numpy(force=True), held.numpy(force=True), k)
    scores, rows = cuda.search_topk(asked, held, k, exact=False, parts=parts)
    np.testing.assert_array_equal(rows.numpy(force=True), wanted)
    np.testing.assert_array_equal(scores.numpy(force=True), expected.astype(np.float32))


def test_many_results_take_fewer_parts_than_asked_for(cuda, monkeypatch):
    held, asked = vectors(700, 4), vectors(3, 4, seed=1)
    expected, wanted = reference.search_topk(asked.numpy(force=True), held.numpy(force=True), 20)
    memory, sizes = cuda._memory, []
    monkeypatch.setattr(cuda, "_memory", lambda size, like: sizes.append(size) or memory(size, like))
    for budget, parts in ((cuda.LISTS_MEMORY, 1), (cuda.LISTS_MEMORY, 5), (1, 5)):
        monkeypatch.setattr(cuda, "LISTS_MEMORY", budget)
        scores, rows = cuda.search_topk(asked, held, 20, parts=parts)
        np.testing.assert_array_equal(rows.numpy(force=True), wanted)
        np.testing.assert_array_equal(scores.numpy(force=True), expected.astype(np.float32))
    assert sizes[2] == sizes[0] < sizes[1]


@pytest.mark.parametrize(
    ("places", "tiles", "parts"),
    [(264, 1, 264), (264, 5, 52), (264, 8, 33), (264, 16, 16), (264, 32, 8), (264, 128, 2), (216, 128, 5), (4, 128, 1)],
)
def test_blocks_fill_the_fewest_rounds(places, tiles, parts):
    from leafkit.ops.cuda import parts_that_fill

    assert parts_that_fill(places, tiles) == parts


@pytest.mark.parametrize("matrix_unit", [True, False])
@pytest.mark.parametrize("queries", [3, 19])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8", "binary"])
@pytest.mark.parametrize("dim", [5, 64, 100])
def test_search_of_codes_is_the_cpus(cuda, dtype, queries, dim, matrix_unit):
    from leafkit import ops

    asked, held = vectors(queries, dim), vectors(333, dim, seed=3)
    codes = cuda.pack_documents(held, dtype)
    scores, rows = cuda.search_topk(asked, codes, 7, matrix_unit=matrix_unit, parts=2)
    expected = ops.search_topk(asked.numpy(force=True), ops.pack_documents(held.numpy(force=True), dtype), 7)
    if dtype in ("int8", "binary"):
        np.testing.assert_array_equal(scores.numpy(force=True), expected.scores)
        np.testing.assert_array_equal(rows.numpy(force=True), expected.rows)
    else:
        np.testing.assert_allclose(
            scores.numpy(force=True), expected.scores, atol=dim * 2e-2 * {"bfloat16": 1, "float16": 0.1}[dtype]
        )
        assert (rows.numpy(force=True) == expected.rows).mean() > 0.9
        rounded = held.to(getattr(torch, dtype)).double()
        own = (asked.to(getattr(torch, dtype)).double()[:, None] * rounded[rows]).sum(2)
        torch.testing.assert_close(scores.double(), own, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", TYPES)
def test_calibrated_int8(cuda, dtype):
    from leafkit import ops

    asked, held = vectors(4, 33).to(dtype).float(), vectors(200, 33, seed=3).to(dtype).float()
    scales = np.linspace(0.01, 0.03, 33).astype(np.float32)
    codes = cuda.pack_documents(held.to(dtype), "int8", torch.tensor(scales))
    scores, rows = cuda.search_topk(asked, codes, 9, parts=1)
    expected = ops.search_topk(
        asked.numpy(force=True), ops.pack_documents(held.numpy(force=True), "int8", scales=scales), 9
    )
    np.testing.assert_array_equal(rows.numpy(force=True), expected.rows)
    np.testing.assert_allclose(scores.numpy(force=True), expected.scores, rtol=1e-6)


@pytest.mark.parametrize("own", [False, True])
def test_filters_leave_places_open(cuda, own):
    asked, held = vectors(4, 9), vectors(150, 9, seed=3)
    random = np.random.default_rng(0)
    allowed = random.random((4, 150) if own else 150) < 0.04
    expected, wanted = reference.search_topk(asked.numpy(force=True), held.numpy(force=True), 12, allowed)
    scores, rows = cuda.search_topk(asked, held, 12, allowed=torch.tensor(allowed), parts=2)
    width = wanted.shape[1]
    np.testing.assert_array_equal(rows[:, :width].numpy(force=True), wanted)
    np.testing.assert_array_equal(scores[:, :width].numpy(force=True), expected.astype(np.float32))
    assert (rows[:, width:] == -1).all()
    assert (scores[:, width:] == -torch.inf).all()


def test_nan_and_infinite_scores_rank_as_on_the_cpu(cuda):
    held = torch.tensor([[1.0], [-torch.inf], [torch.nan], [2.0], [torch.inf], [-0.0]])
    scores, rows = cuda.search_topk(torch.ones(1, 1), held, 6, exact=False, parts=1)
    assert rows.tolist() == [[4, 3, 0, 5, 1, 2]]
    assert scores[0, -1].isnan()
    assert cuda.search_topk(torch.ones(1, 1), held, 6, parts=1)[1].tolist() == rows.tolist()


def test_nothing_and_more_than_there_is(cuda):
    scores, rows = cuda.search_topk(vectors(2, 4), vectors(3, 4), 10, parts=5)
    assert scores.shape == rows.shape == (2, 3)
    for dtype in ("float32", "bfloat16", "int8", "binary"):
        none = cuda.pack_documents(torch.empty(0, 4), dtype)
        assert cuda.search_topk(vectors(2, 4), none, 10, allowed=torch.empty(0, dtype=torch.bool))[0].shape == (2, 0)
    assert cuda.search_topk(torch.empty(0, 4), vectors(3, 4), 2)[0].shape == (0, 2)
