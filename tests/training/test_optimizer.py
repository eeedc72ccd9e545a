"""A step of the optimizer against torch's own clipping."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra: train)")

from leafkit.training import preset  # only where torch is
from leafkit.training.optimizer import make_optimizer, move


def parameters_and_optimizer(scale):
    random = torch.Generator().manual_seed(7)
    parameters = [torch.nn.Parameter(torch.randn(shape, generator=random)) for shape in ((50, 7), (7,), (3, 3))]
    for parameter in parameters[:2]:  # the third gets none
        parameter.grad = scale * torch.randn(parameter.shape, generator=random)
    groups = [{"params": [parameter]} for parameter in parameters]
    return parameters, torch.optim.SGD(groups, lr=0.1)


@pytest.mark.parametrize("scale", [0.01, 3.0], ids=["short", "long"])
def test_a_step_is_torchs_with_clipped_gradients(scale):
    ours, optimizer = parameters_and_optimizer(scale)
    theirs, plain = parameters_and_optimizer(scale)
    norm = move(optimizer)
    assert norm == float(torch.nn.utils.clip_grad_norm_(theirs, 1.0))
    plain.step()
    assert (norm > 1) == (scale > 1)
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_a_gradient_that_is_not_a_number_shows_in_the_norm():
    parameters, optimizer = parameters_and_optimizer(1.0)
    parameters[0].grad[0, 0] = float("nan")
    assert not move(optimizer) <= 1


def test_only_the_last_dense_is_the_projection_and_moves_faster():
    from sentence_transformers.base.modules import Dense

    own, projection = Dense(4, 4), Dense(4, 6, activation_function=torch.nn.Identity())
    recipe = preset("layers:1", epochs=1, learning_rate=1e-3, projection_factor=3.0)
    groups = make_optimizer(torch.nn.ModuleList([own, projection]), recipe).param_groups
    rates = {id(parameter): group["peak"] for group in groups for parameter in group["params"]}
    assert {rates[id(parameter)] for parameter in own.parameters()} == {1e-3}
    assert {rates[id(parameter)] for parameter in projection.parameters()} == {3e-3}
