"""When to ask: the policies' own rules, the drift score's scale, budgets, and both loops over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from backends import BrokenBackend, TinyBackend, serving
from bundles import IMAGE_UP, TEXT_UP, make_bundle
from hypothesis import given, settings
from hypothesis import strategies as st

from paramcast.device import (
    AdaptationLoop,
    Always,
    AsyncAdaptationLoop,
    AsyncCloudClient,
    Budget,
    CloudClient,
    DeviceInputError,
    DeviceRuntime,
    Every,
    Never,
    OnDrift,
    RequestPolicy,
    async_client,
    make_policy,
)
from paramcast.device.policy import History, drift_scores
from paramcast.device.support import MAX_CLIPS, Seen
from paramcast.protocol import SigningKey
from paramcast.server import create_app

Clip = Callable[..., np.ndarray]
DIM = 128


def clips(count: int, seed: int, offset: float = 0.0, spread: float = 1.0, asked: bool = True) -> list[Seen]:
    """Clips of one domain, with features of another scale than the training set's if `spread` is not 1."""
    rng = np.random.default_rng(seed)
    return [
        Seen(
            (spread * rng.normal(size=DIM) + offset).astype("f4"),
            (spread * rng.normal(size=(int(asked), DIM)) + offset).astype("f4"),
        )
        for _ in range(count)
    ]


def asks(policy: RequestPolicy, seen: Sequence[Seen]) -> list[tuple[int, int]]:
    """(clips observed, clips asked with) along a stream, with a cloud that always answers."""
    found: list[tuple[int, int]] = []
    for observed in range(1, len(seen) + 1):
        since = observed - (found[-1][0] if found else 0)
        history = History(observed, since, seen[max(0, observed - MAX_CLIPS) : observed], bool(found))
        if wanted := policy.wants(history):
            found.append((observed, wanted))
    return found


def test_fixed_policies() -> None:
    seen = clips(40, 0)
    assert asks(Never(), seen) == []
    assert asks(Always(), seen) == [(n, min(n, 16)) for n in range(1, 41)]
    assert asks(Every(15), seen) == [(15, 15), (30, 16)]


@pytest.mark.parametrize("text", ["always", "never", "every:7", "on-drift"])
def test_policies_by_name(text: str) -> None:
    assert isinstance(make_policy(text).wants(History(1, 1, clips(1, 0), False)), int)


@pytest.mark.parametrize("text", ["", "sometimes", "every", "every:0", "every:-1", "every:x", "always:3"])
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(DeviceInputError, match="is no request policy"):
        make_policy(text)


@given(st.sampled_from([0.05, 1.0, 20.0]), st.integers(0, 1000), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_score_is_about_one_whatever_the_features(spread: float, seed: int, asked: bool) -> None:
    seen = clips(60, seed, spread=spread, asked=asked)
    scores = drift_scores(seen, [1, 4, 16], seen)
    assert ((scores > 0.5) & (scores < 2.0)).all()
    moved = seen[:50] + clips(10, seed + 1, offset=spread, spread=spread, asked=asked)
    assert drift_scores(moved, [10], moved)[0] > 5


def test_the_score_without_clips_to_compare() -> None:
    seen = clips(1, 0) + clips(5, 1, asked=False)
    scores = drift_scores(seen, [2], seen)  # queries before, none after
    assert 0.5 < scores[0] < 2
    assert drift_scores(seen[:2], [1], seen[:1])[0] == 0


def test_on_drift_asks_where_the_domain_changes_and_as_it_is_known_better() -> None:
    seen = clips(80, 0) + clips(80, 1, offset=1.0)
    first = [(2, 2), (4, 4), (8, 8), (16, 16)]
    found = asks(OnDrift(refresh=None), seen)
    assert found[:4] == first
    later = found[4:]
    assert 81 <= later[0][0] <= 83
    assert [at - count for at, count in later] == [80] * len(later)  # nothing of the domain before
    assert later[-1][1] == 16
    assert asks(OnDrift(refresh=None), clips(160, 2)) == first  # nothing changes, nothing more is asked


def test_whatever_the_score_a_package_is_refreshed() -> None:
    first = [(2, 2), (4, 4), (8, 8), (16, 16)]
    assert asks(OnDrift(), clips(80, 2)) == [*first, (36, 16), (56, 16), (76, 16)]
    assert asks(OnDrift(refresh=30), clips(80, 2)) == [*first, (46, 16), (76, 16)]


def test_hysteresis() -> None:
    """After an alarm the score has to fall below `low` before there can be another."""
    seen = clips(40, 0) + clips(40, 1, offset=1.0) + clips(40, 2)
    assert len([at for at, _ in asks(OnDrift(refresh=None), seen) if at > 80]) >= 3
    assert [at for at, _ in asks(OnDrift(low=0.0, refresh=None), seen) if at > 80] == []


def test_a_failed_request_is_wanted_again() -> None:
    policy = OnDrift()
    seen = clips(4, 0)
    for observed in (2, 3, 4):
        assert policy.wants(History(observed, observed, seen[:observed], False)) == observed


def test_a_stored_package_is_not_replaced_by_one_of_a_single_clip() -> None:
    policy, seen = OnDrift(), clips(20, 0)
    wanted = [policy.wants(History(n, n, seen[:n], True)) for n in range(1, 9)]
    assert wanted == [0] * 7 + [8]


@pytest.mark.parametrize(
    "arguments", [{"low": 3.0}, {"low": -1.0}, {"first": 0}, {"first": 17}, {"high": float("nan")}]
)
def test_settings_out_of_range(arguments: dict[str, float]) -> None:
    with pytest.raises(DeviceInputError, match="must hold"):
        OnDrift(**arguments)  # type: ignore[arg-type]


def test_a_package_is_not_refreshed_before_it_is_whole() -> None:
    with pytest.raises(DeviceInputError, match="refresh must be more than support, not 16 with 16"):
        OnDrift(refresh=16)


def test_a_byte_budget_fills_with_time() -> None:
    now = [0.0]
    budget = Budget(bytes_a_day=1000, clock=lambda: now[0])
    assert budget.refusal(900) is None
    budget.spend(900)
    assert "100 of the day's 1000 bytes are left" in str(budget.refusal(600))
    now[0] = 43200  # half a day
    assert budget.refusal(600) is None
    budget.spend(600)
    now[0] += 10 * 86400
    assert budget.refusal(1000) is None  # holds no more than a day's
    budget.spend(1000)
    assert budget.refusal(1)
    assert Budget().refusal(10**9) is None


def test_the_battery_s_floor() -> None:
    charge: list[float | None] = [0.1]
    budget = Budget(battery=lambda: charge[0])
    assert "the battery is at 10%, below the floor of 20%" in str(budget.refusal(1))
    for charge[0] in (0.2, 0.9, None):
        assert budget.refusal(1) is None
    for arguments in ({"bytes_a_day": 0}, {"battery_floor": 1.5}):
        with pytest.raises(DeviceInputError):
            Budget(**arguments)  # type: ignore[arg-type]


def test_the_loop_asks_by_policy_and_budget(bundle: Path, clip: Clip, key: SigningKey) -> None:
    with serving(create_app(TinyBackend(), key)) as url, CloudClient(url) as cloud:
        runtime = DeviceRuntime.load(bundle, "cam-1")
        loop = AdaptationLoop(runtime, cloud, Every(2))
        assert [loop.observe(clip(seed), ["who"]) for seed in range(5)] == [False, True, False, True, False]
        status = loop.status()
        assert (status["source"], status["sequence"]) == ("cloud", 2)
        counts = status["cloud"]
        assert (counts["asked"], counts["taken"], counts["failures"]) == (2, 2, 0)
        assert counts["bytes_up"] > 0 < counts["bytes_down"]
        poor = AdaptationLoop(runtime.for_user("anna"), cloud, Always(), Budget(counts["bytes_up"]))
        assert poor.observe(clip(), ["who"])
        assert not all(poor.observe(clip(seed), ["who"]) for seed in range(20))
        assert "bytes are left" in poor.status()["cloud"]["waits_for"]


def test_the_async_loop(tmp_path: Path, clip: Clip, key: SigningKey, monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_wait(seconds: float) -> None:
        pass

    async def live(url: str, name: str) -> tuple[list[bool], AsyncAdaptationLoop]:
        runtime = DeviceRuntime.load(make_bundle(tmp_path / name), "cam-1")
        async with AsyncCloudClient(url) as cloud:
            loop = AsyncAdaptationLoop(runtime, cloud)
            return [await loop.observe(clip(seed), ["who"]) for seed in range(4)], loop

    monkeypatch.setattr(async_client, "_sleep_async", no_wait)
    with serving(create_app(TinyBackend(), key)) as url:
        taken, loop = asyncio.run(live(url, "good"))
    assert taken == [False, True, False, True]
    assert loop.status()["sequence"] == 2
    with serving(create_app(BrokenBackend("raises"), key)) as url:
        taken, loop = asyncio.run(live(url, "bad"))
    assert taken == [False] * 4
    assert "status 500" in loop.status()["cloud"]["last_failure"]["message"]
    assert loop.status()["source"] == "base"


def test_the_bundles_dims_are_what_policies_see(bundle: Path, clip: Clip) -> None:
    runtime = DeviceRuntime.load(bundle, "cam-1")
    runtime.observe(clip(), ["who"])
    (seen,) = runtime.recent()
    assert (seen.anchor.shape, seen.queries.shape) == ((IMAGE_UP,), (1, TEXT_UP))
