"""ADR: what a pooled distribution and a divergence have to be."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from paramcast.hypernet.adr import (
    AnchorReasoner,
    Gaussian,
    kl_divergence,
    mixed_cdf,
    mixed_log_density,
    pool,
)

LATENT = 5
numbers = st.floats(-6, 4, width=32)
gaussians = st.tuples(
    arrays("f4", (3, LATENT), elements=numbers), arrays("f4", (3, LATENT), elements=numbers)
)


def gaussian(drawn: tuple) -> Gaussian:
    return Gaussian(torch.from_numpy(drawn[0]), torch.from_numpy(drawn[1]))


def clips_of(count: int, devices: int = 2) -> Gaussian:
    torch.manual_seed(count)
    return Gaussian(torch.randn(devices, count, LATENT), torch.randn(devices, count, LATENT))


@given(gaussians, gaussians)
@settings(deadline=None, max_examples=50)
def test_divergence_is_never_negative(q: tuple, p: tuple) -> None:
    divergence = kl_divergence(gaussian(q), gaussian(p))
    assert (divergence >= -1e-4).all()
    assert kl_divergence(gaussian(q), gaussian(q)).abs().max() == 0


def test_divergence_and_density_are_those_of_torch() -> None:
    q, p = clips_of(3), Gaussian(torch.randn(2, 3, LATENT), torch.randn(2, 3, LATENT))
    q_torch, p_torch = (torch.distributions.Normal(g.mean, (g.logvar / 2).exp()) for g in (q, p))
    wanted = torch.distributions.kl_divergence(q_torch, p_torch).sum(-1)
    torch.testing.assert_close(kl_divergence(q, p), wanted, atol=1e-4, rtol=1e-4)
    x = torch.randn(2, 3, LATENT)
    torch.testing.assert_close(q.log_prob(x), q_torch.log_prob(x).sum(-1), atol=1e-4, rtol=1e-4)


def test_draws_have_the_standard_deviation_exp_of_half_the_log_variance() -> None:
    torch.manual_seed(0)
    logvar = torch.tensor([-4.0, 0.0, 3.0])
    drawn = Gaussian(torch.ones(20_000, 3), logvar.expand(20_000, 3)).sample()
    torch.testing.assert_close(drawn.std(0), (logvar / 2).exp(), rtol=0.03, atol=0)
    torch.testing.assert_close(drawn.mean(0), torch.ones(3), rtol=0, atol=0.15)


@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_pooling_knows_no_order_and_any_number(count: int) -> None:
    clips, mask = clips_of(count), torch.ones(2, count, dtype=torch.bool)
    device, spread = pool(clips, mask)
    assert device.mean.shape == device.logvar.shape == spread.shape == (2, LATENT)
    order = torch.randperm(count)
    shuffled, shuffled_spread = pool(Gaussian(clips.mean[:, order], clips.logvar[:, order]), mask)
    for ours, theirs in (
        (device.mean, shuffled.mean),
        (device.logvar, shuffled.logvar),
        (spread, shuffled_spread),
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_one_clip_is_its_own_pool() -> None:
    clips = clips_of(1)
    device, spread = pool(clips, torch.ones(2, 1, dtype=torch.bool))
    torch.testing.assert_close(device.mean, clips.mean[:, 0])
    torch.testing.assert_close(device.logvar, clips.logvar[:, 0])
    assert (spread < 1e-2).all()


def test_padding_has_no_influence() -> None:
    clips = clips_of(3)
    wanted = pool(clips, torch.ones(2, 3, dtype=torch.bool))
    filler = torch.full((2, 4, LATENT), 50.0)
    padded = Gaussian(torch.cat([clips.mean, filler], 1), torch.cat([clips.logvar, filler * 0 - 6], 1))
    mask = (torch.arange(7) < 3).expand(2, 7)
    found = pool(padded, mask)
    torch.testing.assert_close(found[0].mean, wanted[0].mean)
    torch.testing.assert_close(found[0].logvar, wanted[0].logvar)
    torch.testing.assert_close(found[1], wanted[1])


def test_the_variance_of_the_device_falls_with_every_clip() -> None:
    clips = clips_of(16)
    variances = []
    for count in range(1, 17):
        mask = (torch.arange(16) < count).expand(2, 16)
        variances.append(pool(clips, mask)[0].logvar.exp())
    for fewer, more in pairwise(variances):
        assert (more < fewer).all()


def test_precise_clips_weigh_more() -> None:
    clips = Gaussian(torch.tensor([[[0.0], [1.0]]]), torch.tensor([[[0.0], [math.log(1 / 3)]]]))
    device, spread = pool(clips, torch.ones(1, 2, dtype=torch.bool))
    assert device.mean.item() == pytest.approx(0.75)
    assert device.logvar.exp().item() == pytest.approx(0.25)
    assert spread.item() == pytest.approx(math.sqrt(3) / 4, rel=1e-4)


def test_evidence_teaches_prior_posterior_and_likelihood() -> None:
    """Anchors that say half of their clip: the prior learns to say what it can."""
    torch.manual_seed(0)
    reasoner = AnchorReasoner(4, latent=4)
    optimizer = torch.optim.Adam(reasoner.parameters(), 0.02)
    bounds = []
    for _ in range(150):
        clip = torch.randn(128, 4)
        anchor = clip * torch.tensor([1.0, 1.0, 0.0, 0.0])
        q, p, likelihood = reasoner.evidence(anchor, clip)
        bound = (likelihood - kl_divergence(q, p)).mean()
        optimizer.zero_grad()
        (-bound).backward()
        optimizer.step()
        bounds.append(bound.item())
    assert bounds[-1] > bounds[0] + 1
    # The best that any model can reach: two entries told exactly, two a unit Gaussian.
    assert bounds[-1] > -2 * 0.5 * (1 + math.log(2 * math.pi)) - 1.5


def pairs(count: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Anchors of four entries; clips: nine tenths of these, and noise, twice as much in the second entry."""
    anchor = torch.randn(count, 4)
    return anchor, 0.9 * anchor + noise * torch.tensor([1.0, 2.0, 1.0, 1.0]) * torch.randn(count, 4)


def test_it_starts_from_the_anchor_and_what_is_usual_about_it() -> None:
    torch.manual_seed(0)
    reasoner = AnchorReasoner(4, latent=3)
    reasoner.fit(*pairs(4000, 0.3))
    torch.testing.assert_close(reasoner.gain, torch.full((4,), 0.9), atol=0.03, rtol=0)
    torch.testing.assert_close(
        (reasoner.level / 2).exp(), torch.tensor([0.3, 0.6, 0.3, 0.3]), atol=0.02, rtol=0
    )
    anchor, clip = pairs(4000, 0.3)
    with torch.no_grad():
        found = reasoner.predict(anchor, 8)
    told = mixed_cdf(found, clip)
    inside = ((told > 0.05) & (told < 0.95)).float().mean().item()
    assert inside == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize("noise", [0.2, 0.5])
def test_the_temperature_is_that_of_clips_that_were_not_trained_on(noise: float) -> None:
    torch.manual_seed(0)
    reasoner = AnchorReasoner(4, latent=3)
    reasoner.fit(*pairs(4000, 0.3))
    reasoner.calibrate(*pairs(4000, noise))
    assert reasoner.temperature.item() == pytest.approx(2 * math.log(noise / 0.3), abs=0.06)


def test_mixtures_are_those_of_torch() -> None:
    torch.manual_seed(0)
    parts = Gaussian(torch.randn(5, 7, 2), torch.randn(5, 7, 2))
    x = torch.randn(7, 2)
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.ones(7, 2, 5)),
        torch.distributions.Normal(parts.mean.movedim(0, -1), (parts.logvar / 2).exp().movedim(0, -1)),
    )
    torch.testing.assert_close(mixed_log_density(parts, x), mixture.log_prob(x), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(mixed_cdf(parts, x), mixture.cdf(x), atol=1e-5, rtol=1e-4)
