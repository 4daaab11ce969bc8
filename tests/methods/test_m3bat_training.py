from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from paramcast.methods.m3bat import training
from paramcast.methods.m3bat.network import BranchNetwork, Linear, WindowEncoder, reverse_gradient
from paramcast.methods.m3bat.training import (
    M3BATDivergedError,
    Plan,
    coral_loss,
    domain_loss,
    ramp,
    stage,
    train,
)

PLAN = Plan(
    steps=20,
    batch=8,
    rate=1e-2,
    decay=0.0,
    strength=(1.0,),
    weights=(1.0, 1.0, 1.0),
    alignment="adversarial",
    staged=True,
    progress=False,
)


def network(branches: list[list[int]] | None = None, joint: bool = False, members: int = 1) -> BranchNetwork:
    torch.manual_seed(0)
    return BranchNetwork(members, branches or [[0, 1], [2, 3]], 4, False, 3, 16, 0.0, joint)


def cross_entropy(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(outputs.mT, labels, reduction="none").mean(-1)


def data(rows: int = 40) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, 4, generator=generator)
    return x, (x[:, 0] > 0).long(), torch.randn(rows, 4, generator=generator) + 1


def test_lambda_rises_over_the_whole_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [round(ramp(p), 4) for p in (0, 0.1, 0.5, 1)] == [0, 0.4621, 0.9866, 0.9999]
    seen: list[float] = []
    monkeypatch.setattr(training, "ramp", lambda p: seen.append(p) or ramp(p))
    train(network(), *data(), cross_entropy, replace(PLAN, staged=False), np.random.default_rng(0))
    np.testing.assert_allclose(seen, np.arange(20) / 20)


def test_lambda_begins_at_zero_after_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    monkeypatch.setattr(training, "ramp", lambda p: seen.append(p) or ramp(p))
    train(network(), *data(), cross_entropy, PLAN, np.random.default_rng(0))
    np.testing.assert_allclose(seen, np.arange(18) / 18, atol=1e-12)
    assert [training.adversarial_share(p, PLAN) for p in (0, 0.1)] == [0, 0]


def test_stages_are_source_only_then_shared_then_branches() -> None:
    assert [stage(p, PLAN) for p in (0, 0.09, 0.1, 0.19, 0.2, 0.99)] == [
        (False, False),
        (False, False),
        (True, False),
        (True, False),
        (True, True),
        (True, True),
    ]
    assert stage(0, replace(PLAN, staged=False)) == (True, True)
    assert stage(0.9, replace(PLAN, alignment="none")) == (False, True)


@pytest.mark.parametrize("length", [1, 40])
def test_a_window_in_which_nothing_moves_has_finite_slopes(length: int) -> None:
    torch.manual_seed(0)
    encoder = WindowEncoder(channels=2, hidden=8, dropout=0.0, members=(3,))
    still = torch.ones(3, 5, 2, length)
    encoder(still).sum().backward()
    for name, value in encoder.named_parameters():
        assert value.grad is not None
        assert torch.isfinite(value.grad).all(), name
    with torch.no_grad():
        alone = encoder(still[:, :1])
    assert torch.allclose(alone, encoder(still)[:, :1], atol=1e-6)


def test_reversed_gradients_have_the_other_sign() -> None:
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    y = reverse_gradient(x)
    assert y.tolist() == [1.0, -2.0]
    (y * torch.tensor([3.0, 5.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [-3.0, -5.0]


def test_the_encoder_is_pulled_against_its_discriminator_alone() -> None:
    net, (source, _, target) = network(), data()

    def loss() -> torch.Tensor:
        sides = [net.domains(net.encode(side[None]))[1] for side in (source, target)]
        return domain_loss(*sides).sum()

    before = loss()
    before.backward()
    touched = [any(p.grad is not None for p in encoder.parameters()) for encoder in net.encoders]
    assert touched == [False, True, False]
    weight = net.encoders[1][0].weight
    with torch.no_grad():
        weight -= 0.05 * weight.grad
        assert loss() > before


def test_opening_the_branches_changes_no_answer() -> None:
    net, (source, _, _) = network(), data()
    x = source[None]
    assert len(net.encode(x, opened=False)) == 1
    torch.testing.assert_close(net.predict(net.encode(x)), net.predict(net.encode(x, opened=False)))


def test_networks_side_by_side_do_not_touch_each_other() -> None:
    source, labels, target = data()
    pools = [np.arange(30), np.arange(10, 40)]
    together, results = replace(PLAN, strength=(0.0, 0.0, 1.0, 1.0)), []
    for strengths, members in (((0.0, 0.0, 1.0, 1.0), [0, 1, 0, 1]), ((1.0, 1.0), [0, 1])):
        net = network(members=2)
        net.take(members)
        plan = replace(together, strength=strengths)
        train(net, source, labels, target, cross_entropy, plan, np.random.default_rng(0), pools)
        net.take(range(net.members)[-2:])
        results.append([p.detach() for p in net.parameters()])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)
    assert not torch.allclose(results[0][0][0], results[0][0][1])


def test_a_layer_side_by_side_is_as_many_layers() -> None:
    torch.manual_seed(0)
    layer, x = Linear(3, 2, (4,)), torch.randn(4, 5, 3)
    each = [x[i] @ layer.weight[i] + layer.bias[i] for i in range(4)]
    torch.testing.assert_close(layer(x), torch.stack(each))
    assert Linear(3, 2)(x).shape == (4, 5, 2)


def test_windows_side_by_side_are_encoded_one_by_one() -> None:
    torch.manual_seed(0)
    encoder, x = WindowEncoder(2, 8, 0.0, (3,)), torch.randn(3, 5, 2, 40)
    alone = WindowEncoder(2, 8, 0.0, (1,))
    for member in range(3):
        values = {name: value[member : member + 1] for name, value in encoder.state_dict().items()}
        alone.load_state_dict(values)
        torch.testing.assert_close(alone(x[member : member + 1])[0], encoder(x)[member])


@pytest.mark.parametrize("joint", [False, True])
def test_every_parameter_is_trained(joint: bool) -> None:
    net = network(joint=joint)
    before = {name: value.clone() for name, value in net.named_parameters()}
    weights = (1.0,) if joint else PLAN.weights
    train(net, *data(), cross_entropy, replace(PLAN, weights=weights), np.random.default_rng(0))
    still = [name for name, value in net.named_parameters() if torch.equal(value, before[name])]
    assert still == []
    assert not net.training


def test_one_branch_is_one_encoder_and_one_discriminator() -> None:
    net = network([[0, 1, 2, 3]])
    assert len(net.encoders) == len(net.heads) == len(net.discriminators) == 1
    assert len(network().encoders) == len(network().discriminators) == 3
    assert len(network(joint=True).discriminators) == 1


def test_a_weight_of_zero_leaves_a_branch_unaligned() -> None:
    results = []
    for weights in ((1.0, 0.0, 1.0), (1.0, 1.0, 1.0)):
        net = network()
        start = net.discriminators[1][0].weight.clone()
        train(net, *data(), cross_entropy, replace(PLAN, weights=weights), np.random.default_rng(0))
        results.append(torch.equal(net.discriminators[1][0].weight, start))
    assert results == [True, False]


def test_domains_count_the_same_whatever_their_size() -> None:
    source, target = torch.tensor([[0.3, -1.0]]), torch.tensor([[2.0]])
    parts = [
        F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, side))
        for side, logits in enumerate((source, target))
    ]
    torch.testing.assert_close(domain_loss(source, target), (sum(parts) / 2)[None])


def test_coral_is_the_distance_of_covariances() -> None:
    source, target = torch.randn(9, 3), torch.randn(7, 3)
    distance = np.cov(source.numpy().T) - np.cov(target.numpy().T)
    assert coral_loss(source, target).item() == pytest.approx((distance**2).sum() / 36, rel=1e-4)
    assert coral_loss(source, source + 5).item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("length", [1, 2, 13, 100])
def test_windows_of_any_length_are_encoded(length: int) -> None:
    assert WindowEncoder(6, 16, 0.0, (2,))(torch.randn(2, 3, 6, length)).shape == (2, 3, 16)


def test_a_loss_that_is_no_number_ends_training() -> None:
    source, labels, target = data()
    with pytest.raises(M3BATDivergedError, match="lower learning_rate"):
        train(network(), source * np.nan, labels, target, cross_entropy, PLAN, np.random.default_rng(0))
