"""Products in the matrix unit against float64; where there is none, torch's own answer for them."""

import numpy as np
import pytest

_C = pytest.importorskip("leafkit._C", reason="no native module was built")
torch = pytest.importorskip("torch", reason="torch is not installed (extra: train)")

from leafkit.ops import encoder as ops  # only where torch is

UNIT = 2.0**-8  # a rounding to bfloat16 loses at most this much of a value
SIZES = [(32, 32, 32), (64, 96, 32), (96, 32, 160), (160, 384, 1536), (2080, 64, 32)]  # rows, outputs, inputs
amx = pytest.mark.skipif("amx" not in _C.levels(), reason="this CPU has no matrix unit")


def halves(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).bfloat16()


def sums_of_sizes(a, b):
    """The largest sum of |a b| that any value of the product is made of: what errors are measured in."""
    return float((a.double().abs() @ b.double().abs()).max())


@pytest.fixture(params=_C.levels())
def level(request, monkeypatch):
    monkeypatch.setenv("LEAFKIT_CPU_LEVEL", request.param)
    return request.param


@pytest.mark.parametrize(("rows", "outputs", "inputs"), SIZES)
def test_products_with_a_weight_are_within_one_rounding_of_float64(level, rows, outputs, inputs):
    x, gradient = halves(rows, inputs, seed=1), halves(rows, outputs, seed=2)
    matrix = halves(outputs, inputs, seed=3).float()
    weight = ops.prepare(matrix, torch.bfloat16)
    assert (weight.plain is None) == (level == "amx")
    for found, truth, most in (
        (ops.linear(x, weight), x.double() @ matrix.double().T, sums_of_sizes(x, matrix.T)),
        (ops.linear_backward(gradient, weight), gradient.double() @ matrix.double(), sums_of_sizes(gradient, matrix)),
    ):
        error = (found.double() - truth).abs()
        assert bool((error <= UNIT * truth.abs() + 2.0**-20 * most).all())


@pytest.mark.parametrize("multiplied", [False, True])
@pytest.mark.parametrize(("rows", "outputs", "inputs"), SIZES)
def test_gradients_of_weight_and_bias_are_those_of_float64(level, rows, outputs, inputs, multiplied):
    x, gradient = halves(rows, inputs, seed=4), halves(rows, outputs, seed=5)
    factor = halves(rows, outputs, seed=6) if multiplied else None
    used = gradient * factor if multiplied else gradient.clone()
    weight, bias = ops.weight_gradient(gradient, x, factor)
    assert torch.equal(gradient, used)  # multiplied in its place
    assert weight.dtype == bias.dtype == torch.float32
    unit = 2.0**-20 if level == "amx" else UNIT  # torch rounds its sums to bfloat16
    truth, most = used.double().T @ x.double(), sums_of_sizes(used.T, x)
    assert bool(((weight.double() - truth).abs() <= unit * truth.abs() + 2.0**-20 * most).all())
    torch.testing.assert_close(bias.double(), used.double().sum(0), rtol=0, atol=2.0**-20 * rows * 8)


@amx
@pytest.mark.parametrize(("outputs", "inputs"), [(160, 96), (96, 160)])
def test_any_number_of_threads_gives_the_same_bits(monkeypatch, outputs, inputs):
    monkeypatch.setenv("LEAFKIT_CPU_LEVEL", "amx")
    x, gradient, matrix = halves(416, inputs), halves(416, outputs, seed=1), halves(outputs, inputs, seed=2).float()
    found = []
    for count in ("1", "3"):
        monkeypatch.setenv("LEAFKIT_NUM_THREADS", count)
        weight = ops.prepare(matrix, torch.bfloat16)
        found.append((ops.linear(x, weight), ops.linear_backward(gradient, weight), *ops.weight_gradient(gradient, x)))
    assert all(torch.equal(one, three) for one, three in zip(*found, strict=True))


@amx
def test_a_value_that_is_not_a_number_stays_in_its_row(monkeypatch):
    monkeypatch.setenv("LEAFKIT_CPU_LEVEL", "amx")
    x = halves(64, 64)
    x[37, 5] = float("nan")
    out = ops.linear(x, ops.prepare(halves(32, 64).float(), torch.bfloat16))
    assert bool(out[37].isnan().all())
    assert not bool(out[np.arange(64) != 37].isnan().any())


@pytest.mark.parametrize(("outputs", "inputs"), [(48, 32), (32, 16)])
def test_sizes_that_tiles_do_not_hold_are_torchs(level, outputs, inputs):
    weight = ops.prepare(halves(outputs, inputs).float(), torch.bfloat16)
    x = halves(32, inputs, seed=1)
    torch.testing.assert_close(ops.linear(x, weight), x @ weight.plain.T, rtol=0, atol=0)
    assert ops.weight_gradient(halves(32, outputs, seed=2), x)[0].shape == (outputs, inputs)


@amx
@pytest.mark.parametrize(
    ("left", "right", "out", "message"),
    [
        ((32, 48), 48 * 32, (32, 32), r"left has shape \(32, 48\), expected multiples of 32"),
        ((32, 32), 31 * 32, (32, 32), r"right has shape \(992\), expected \(1024\)"),
        ((64, 32), 32 * 32, (32, 32), r"out has shape \(32, 32\), expected \(64, 32\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_with_both_numbers(left, right, out, message):
    with pytest.raises(ValueError, match=message):
        _C.multiply(np.zeros(left, np.uint16), np.zeros(right, np.uint16), np.zeros(out, np.uint16), 1, "amx")


def test_levels_without_a_matrix_unit_refuse_products():
    with pytest.raises(ValueError, match="products need level amx"):
        _C.multiply(*(np.zeros(shape, np.uint16) for shape in ((32, 32), 1024, (32, 32))), 1, "scalar")
