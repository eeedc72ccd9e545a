"""Gradients of matrices in the matrix unit against float64; where there is none, torch's own answer for them."""

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
    x, gradient = halves(416, inputs), halves(416, outputs, seed=1)
    found = []
    for count in ("1", "3"):
        monkeypatch.setenv("LEAFKIT_NUM_THREADS", count)
        found.append(ops.weight_gradient(gradient, x))
    assert all(torch.equal(one, three) for one, three in zip(*found, strict=True))


@amx
def test_a_value_that_is_not_a_number_stays_in_its_column(monkeypatch):
    monkeypatch.setenv("LEAFKIT_CPU_LEVEL", "amx")
    x = halves(64, 64)
    x[37, 5] = float("nan")
    weight, bias = ops.weight_gradient(halves(64, 32, seed=1), x)
    assert bool(weight[:, 5].isnan().all())
    assert not bool(weight[:, np.arange(64) != 5].isnan().any() | bias.isnan().any())


@pytest.mark.parametrize(("rows", "outputs", "inputs"), [(32, 48, 32), (32, 32, 16), (16, 32, 32)])
def test_sizes_that_tiles_do_not_hold_are_torchs(level, rows, outputs, inputs):
    x, gradient = halves(rows, inputs, seed=1), halves(rows, outputs, seed=2)
    weight, _ = ops.weight_gradient(gradient, x)
    torch.testing.assert_close(weight, (gradient.T @ x).float(), rtol=2 * UNIT, atol=2 * UNIT)


def arrays(rows=32, outputs=64, inputs=32, x_rows=None, packed=None):
    halves_of = [np.zeros(shape, np.uint16) for shape in ((rows, outputs), (x_rows or rows, inputs))]
    room = np.zeros(rows * min(outputs, inputs) if packed is None else packed, np.uint16)
    return (
        halves_of[0],
        None,
        halves_of[1],
        room,
        np.zeros((outputs, inputs), np.float32),
        np.zeros(outputs, np.float32),
    )


@amx
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"outputs": 48}, r"gradient has shape \(32, 48\), expected multiples of 32"),
        ({"x_rows": 64}, r"x has shape \(64, 32\), expected \(32, 32\)"),
        ({"packed": 992}, r"packed has shape \(992\), expected \(1024\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_with_both_numbers(given, message):
    with pytest.raises(ValueError, match=message):
        _C.weight_gradient(*arrays(**given), 1, "amx")


def test_levels_without_a_matrix_unit_refuse_products():
    with pytest.raises(ValueError, match="products need level amx"):
        _C.weight_gradient(*arrays(), 1, "scalar")
