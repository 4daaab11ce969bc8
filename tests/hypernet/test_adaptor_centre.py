"""What the adaptor starts from: how far a support set's mean is trusted."""

from __future__ import annotations

from dataclasses import replace

import torch

from paramcast.hypernet import ContextInputs, HypernetworkConfig
from paramcast.hypernet.centre import CentreStart
from paramcast.hypernet.forms import FormHypernetwork
from paramcast.video.models.retrieval import RetrievalModel


def known(offset: float, clips: int = 8, devices: int = 200, dim: int = 20) -> ContextInputs:
    """Uplink features of unit variance about a mean that is `offset` in every entry."""
    torch.manual_seed(0)
    mask = torch.ones(devices, clips, dtype=torch.bool)
    anchors, queries = (torch.randn(devices, clips, dim) + offset for _ in range(2))
    return ContextInputs(anchors, mask, queries, mask)


def opened(start: CentreStart) -> CentreStart:
    with torch.no_grad():
        start.gate[0] = 0.1  # a gate that opens to all of the mean
    return start


def test_nothing_is_taken_away_before_anything_is_learned() -> None:
    start = CentreStart(16)
    assert (start(known(2.0)) == 0).all()
    start(known(2.0)).sum().backward()
    assert start.gate.grad is not None
    assert start.gate.grad[0] != 0


def test_a_mean_that_may_be_chance_is_not_trusted_and_one_that_stands_out_is() -> None:
    start = opened(CentreStart(16))
    assert start(known(0.0)).abs().mean() < 0.25 * known(0.0).anchors.mean(1).abs().mean()
    torch.testing.assert_close(start(known(2.0)).mean(), torch.tensor(2.0), atol=0.05, rtol=0)


def test_more_clips_are_trusted_more() -> None:
    start = opened(CentreStart(16))
    taken = [start(known(0.7, clips)).mean().item() for clips in (1, 4, 16)]
    assert taken == sorted(taken)
    assert taken[0] < 0.35 < 0.6 < taken[2]


def test_missing_queries_do_not_count() -> None:
    start, few = opened(CentreStart(16)), known(1.0, 3)
    more = replace(
        few,
        queries=torch.cat([few.queries, torch.full((200, 2, 20), 99.0)], 1),
        query_mask=torch.cat([few.query_mask, torch.zeros(200, 2, dtype=torch.bool)], 1),
    )
    torch.testing.assert_close(start(more), start(few))
    assert (start(replace(few, query_mask=torch.zeros_like(few.query_mask))) == 0).all()


def test_a_constant_context_has_no_mean_of_its_own() -> None:
    adaptor = FormHypernetwork(
        HypernetworkConfig("constant", 20, 20, 4),
        "codes",
        RetrievalModel(20, 20),
        RetrievalModel.targets,
        centred=("text",),
        centre_dims=16,
    ).eval()
    values, _ = adaptor(known(2.0))
    assert (values["centre"] == 0).all()
    assert values["centre"].shape == (200, 16)
