"""Noise on what is sent: of the scale asked for, drawn once for each clip, and never on the answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundles import make_bundle

from paramcast.device import DeviceInputError, DeviceRuntime

CLIPS, SCALE = 60, 0.5


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("noise") / "bundle")


def observed(bundle: Path, clip: Callable[..., np.ndarray], noise: float) -> DeviceRuntime:
    runtime = DeviceRuntime.load(bundle, "cam-1", uplink_noise=noise)
    for place in range(CLIPS):
        runtime.observe(clip(place), ["who is there"])
    return runtime


def test_it_has_the_scale_that_was_asked_for(bundle: Path, clip: Callable[..., np.ndarray]) -> None:
    clean, noisy = (observed(bundle, clip, noise).request() for noise in (0.0, SCALE))
    for plain, sent in ((clean.anchors, noisy.anchors), (clean.queries, noisy.queries)):
        added = sent - plain
        assert abs(added.std() - SCALE) < 4 * SCALE / np.sqrt(2 * added.size)
        assert abs(added.mean()) < 4 * SCALE / np.sqrt(added.size)


def test_a_clip_sent_twice_does_not_average_out(bundle: Path, clip: Callable[..., np.ndarray]) -> None:
    runtime = observed(bundle, clip, SCALE)
    first, second = runtime.request(), runtime.request()
    np.testing.assert_array_equal(first.anchors, second.anchors)
    np.testing.assert_array_equal(first.queries, second.queries)
    # Another device, and another user of this one, draw their own.
    other = observed(bundle, clip, SCALE).request()
    assert not np.array_equal(first.anchors, other.anchors)
    user = runtime.for_user("anna")
    user.observe(clip(0), ["who is there"])
    assert not np.array_equal(first.anchors[0], user.request().anchors[0])


def test_without_it_what_is_sent_is_exact(bundle: Path, clip: Callable[..., np.ndarray]) -> None:
    first, second = (observed(bundle, clip, 0.0).request() for _ in range(2))
    np.testing.assert_array_equal(first.anchors, second.anchors)


def test_answers_are_not_touched(bundle: Path, clip: Callable[..., np.ndarray]) -> None:
    clean, noisy = (observed(bundle, clip, noise) for noise in (0.0, SCALE))
    assert clean.answer(clip(3), ["who is there"]) == noisy.answer(clip(3), ["who is there"])


@pytest.mark.parametrize("scale", [-0.1, float("nan"), float("inf")])
def test_impossible_scales_are_refused(bundle: Path, scale: float) -> None:
    with pytest.raises(DeviceInputError, match="noise"):
        DeviceRuntime.load(bundle, "cam-1", uplink_noise=scale)
