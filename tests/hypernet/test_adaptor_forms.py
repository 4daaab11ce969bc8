"""Adaptors of every form under every condition: where they start, what learns, what a context depends on."""

from __future__ import annotations

from dataclasses import replace

import adaptor_cases as cases
import pytest
import torch
from torch import Tensor

from paramcast.hypernet.forms import FORMS


@pytest.mark.parametrize(("form", "condition"), cases.CASES)
def test_it_starts_at_the_base_model(form: str, condition: str) -> None:
    adaptor = cases.build(form, condition).eval()
    values, _ = adaptor(cases.inputs())
    assert {name: tuple(value.shape[1:]) for name, value in values.items()} == adaptor.adapted.adapter.shapes
    frames, mask = torch.randn(5, 2, cases.IMAGE), torch.ones(5, 2, dtype=torch.bool)
    questions = torch.randn(5, 3, cases.TEXT)
    with adaptor.adapted.use(values) as module:
        adapted = module(frames, mask, questions)
    torch.testing.assert_close(adapted, adaptor.adapted.module(frames, mask, questions), atol=1e-6, rtol=0)
    for name, base in adaptor.adapted.adapter.base_values().items():
        if not name.endswith(".b"):  # of lowrank: a factor that the other, zero, one makes harmless
            assert (values[name] == base).all(), name


@pytest.mark.parametrize(("form", "condition"), cases.CASES)
def test_every_weight_learns(form: str, condition: str) -> None:
    """The heads by the first step, all that is before them by the second."""
    adaptor = cases.build(form, condition).train()
    optimizer = torch.optim.SGD(adaptor.parameters(), 0.1)
    reached: dict[str, float] = dict.fromkeys((name for name, _ in adaptor.named_parameters()), 0.0)
    for step in range(2):
        torch.manual_seed(step)  # a draw with the prior, then one with the posterior: both are used
        optimizer.zero_grad()
        cases.loss(adaptor, cases.inputs(devices=16)).backward()
        for name, parameter in adaptor.named_parameters():
            if parameter.grad is not None:
                reached[name] = max(reached[name], parameter.grad.abs().max().item())
        if step == 0:
            # Of the factors of lowrank the one that does not start at zero waits for the other.
            heads = [name for name in reached if ".heads." in name and "/b." not in name]
            assert heads
            assert [name for name in heads if reached[name] == 0] == []
        optimizer.step()
    if condition == "constant":  # its context is zero, so the biases behind these do the same work
        reached = {n: v for n, v in reached.items() if n not in ("fda.skip.weight", "fda.body.0.weight")}
    assert [name for name, most in reached.items() if most == 0] == []


@pytest.mark.parametrize(("form", "condition"), cases.CASES)
def test_all_of_it_is_state(form: str, condition: str) -> None:
    """Another adaptor with this one's state makes the same parameters; the base model is not a part of it."""
    first, second = cases.shake(cases.build(form, condition)).eval(), cases.build(form, condition).eval()
    assert not any("module" in name or "fusion.image.weight" in name for name in first.state_dict())
    for parameter in second.parameters():
        torch.nn.init.normal_(parameter)
    second.load_state_dict(first.state_dict())
    known = cases.inputs()
    same(first(known)[0], second(known)[0], tolerance=0)
    learned = {id(p) for p in first.parameters()}
    assert not learned & {id(p) for p in first.adapted.module.parameters()}


@pytest.mark.parametrize("form", FORMS)
def test_devices_of_a_batch_do_not_see_each_other(form: str) -> None:
    adaptor = cases.shake(cases.build(form)).eval()
    known = cases.inputs()
    together, _ = adaptor(known)
    alone, _ = adaptor(one(known, 2))
    same({name: value[2:3] for name, value in together.items()}, alone)
    other, _ = adaptor(one(known, 1))
    assert any(not torch.allclose(other[name], alone[name], atol=1e-4) for name in alone)


def test_padding_order_and_whole_clips_do_not_matter_to_a_package() -> None:
    adaptor = cases.shake(cases.build("codes")).eval()
    known = cases.inputs()
    wanted, loss = adaptor(known)
    assert loss.item() == 0
    same(adaptor(replace(known, clips=None))[0], wanted, tolerance=0)
    same(adaptor(replace(known, clips=known.clips * 7, truth=None))[0], wanted, tolerance=0)  # type: ignore[operator]
    order = torch.tensor([1, 0, 2])
    turned = replace(known, anchors=known.anchors[:, order], queries=known.queries[:, order])
    same(adaptor(turned)[0], wanted)
    filler = torch.full((5, 2, 1), 9.0)
    unseen = torch.zeros(5, 2, dtype=torch.bool)
    padded = replace(
        known,
        anchors=torch.cat([known.anchors, filler.expand(-1, -1, cases.IMAGE)], 1),
        anchor_mask=torch.cat([known.anchor_mask, unseen], 1),
        queries=torch.cat([known.queries, filler.expand(-1, -1, cases.TEXT)], 1),
        query_mask=torch.cat([known.query_mask, unseen], 1),
    )
    same(adaptor(padded)[0], wanted)


def test_training_uses_prior_and_posterior_in_turn() -> None:
    adaptor = cases.shake(cases.build("codes")).train()
    adaptor.fda.eval()  # no dropout, so that the codes depend on the context alone
    known = cases.inputs()
    with_clips, without = set(), set()
    for seed in range(16):
        torch.manual_seed(seed)
        with_clips.add(round(adaptor(known)[0]["codes"].sum().item(), 4))
        without.add(round(adaptor(replace(known, clips=None))[0]["codes"].sum().item(), 4))
    assert len(with_clips) == 2
    assert len(without) == 1
    assert without < with_clips


def test_a_device_without_queries_gets_a_package() -> None:
    adaptor = cases.shake(cases.build("codes")).eval()
    known = cases.inputs()
    nobody = replace(known, query_mask=torch.zeros_like(known.query_mask))
    assert all(value.isfinite().all() for value in adaptor(nobody)[0].values())


def test_a_constant_context_is_the_same_in_training_and_evaluation() -> None:
    adaptor = cases.shake(cases.build("codes", "constant"))
    adaptor.fda.body[0].p = 0.0
    known = cases.inputs()
    same(adaptor.train()(known)[0], adaptor.eval()(known)[0])
    assert adaptor(known)[0]["codes"].std(0).max() < 1e-6


def test_residual_edits_are_bounded_by_the_layer() -> None:
    adaptor = cases.shake(cases.build("residual"), scale=100.0).eval()
    values, _ = adaptor(cases.inputs())
    for name, edit in values.items():
        root_mean_square = adaptor.adapter.targets[name].square().mean().sqrt()
        assert edit.abs().max() <= root_mean_square * (1 + 1e-5)
        assert edit.abs().max() > root_mean_square / 2


def one(known: cases.ContextInputs, place: int) -> cases.ContextInputs:
    """The inputs of one device."""
    return cases.ContextInputs(**{name: v[place : place + 1] for name, v in vars(known).items()})


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], atol=tolerance, rtol=tolerance)
