"""A device takes up an update only if it does to the exported example what the server has signed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from worlds import FOREVER, World, add_server, arrays, make_world

from paramcast.artifact.effect import MOST, Effects
from paramcast.artifact.errors import ArtifactError
from paramcast.artifact.read import read_device
from paramcast.device import ModuleRuntime, WrongEffect
from paramcast.device.module_graphs import ModuleGraphs
from paramcast.protocol import Package, seal
from paramcast.protocol.quantize import QUANTIZATIONS, rounded
from paramcast.server.service import AdaptService
from paramcast.server.serving import Models, Served

NOW = 1_900_000_000


@pytest.fixture(scope="module", params=["conv", "two"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    made = make_world(tmp_path_factory.mktemp(request.param) / "artifact", request.param)
    add_server(made)
    return made


@pytest.fixture(scope="module")
def effects(world: World) -> Effects:
    found = Effects.open(world.out)
    assert found is not None
    return found


def sent(
    world: World, effects: Effects | None, values: Mapping[str, np.ndarray], sequence: int = 1, **changes: Any
) -> bytes:
    quantization = changes.pop("quantization", "int4")
    effect = None if effects is None else effects.of(rounded(values, quantization))
    form = world.adapted.adapter.name
    package = Package("cam-1", world.model, sequence, FOREVER, form, quantization, values, NOW, effect=effect)
    return seal(replace(package, **changes), world.key)


def device(world: World) -> ModuleRuntime:
    return ModuleRuntime.load(world.out, "cam-1", public_key=world.public_key)


def test_no_sound_update_is_refused(world: World, effects: Effects) -> None:
    runtime, x = device(world), arrays(world.inputs)
    runtime.observe(x)
    for sequence in range(1, 101):
        values = world.values(sequence, size=(0.01, 0.3, 1.0, 3.0)[sequence % 4])
        quantization = QUANTIZATIONS[sequence // 4 % 4]
        opened = runtime.apply(sent(world, effects, values, sequence, quantization=quantization))
        assert opened.effect is not None
        assert len(opened.effect) <= 4 + 2 * MOST
    assert runtime.status()["refused"] is None


def test_an_update_that_changes_nothing_is_taken_up(world: World, effects: Effects) -> None:
    nothing = {k: v.numpy() for k, v in world.adapted.adapter.base_values().items()}
    assert device(world).apply(sent(world, effects, nothing)).sequence == 1


Fault = Callable[[dict[str, np.ndarray], Mapping[str, np.ndarray]], None]


def _cached_base(feed: dict[str, np.ndarray], base: Mapping[str, np.ndarray]) -> None:
    """A runtime that answers with what it was first run with."""
    feed.update(base)


def _dropped_tensor(feed: dict[str, np.ndarray], base: Mapping[str, np.ndarray]) -> None:
    """A runtime that leaves one input as it was."""
    name = next(name for name in base if name.endswith("weight"))
    feed[name] = base[name]


def _other_numbers(feed: dict[str, np.ndarray], base: Mapping[str, np.ndarray]) -> None:
    """A definition of the change that has been replaced since: half of the change."""
    for name, value in base.items():
        feed[name] = (value + feed[name]) / 2


@pytest.mark.parametrize("fault", [_cached_base, _dropped_tensor, _other_numbers])
def test_an_update_without_its_effect_is_refused(
    world: World, effects: Effects, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = device(world)
    runtime.apply(sent(world, effects, world.values(1), 1))
    before, whole = runtime.predict(arrays(world.inputs)), ModuleGraphs.outputs

    def broken(self: ModuleGraphs, data: Any, targets: Any) -> dict[str, np.ndarray]:
        feed = dict(targets)
        fault(feed, self.base)
        if fault is _cached_base:  # one output differs in its last digit: it is not even equal to the base's
            feed[next(iter(feed))] = np.nextafter(feed[next(iter(feed))], np.float32(9))
        return whole(self, data, self.base if targets is self.base else feed)

    monkeypatch.setattr(ModuleGraphs, "outputs", broken)
    with pytest.raises(WrongEffect, match="base's outputs" if fault is _cached_base else "off by"):
        runtime.apply(sent(world, effects, world.values(2), 2))
    refused = runtime.status()["refused"]
    assert refused is not None
    assert refused["error"] == "WrongEffect"
    monkeypatch.undo()
    np.testing.assert_equal(runtime.predict(arrays(world.inputs)), before)


def test_another_effect_than_the_signed_one_is_refused(world: World, effects: Effects) -> None:
    runtime = device(world)
    other = effects.of(world.values(7))
    assert other is not None
    with pytest.raises(WrongEffect, match="off by"):
        runtime.apply(sent(world, None, world.values(1), effect=other))
    with pytest.raises(WrongEffect, match="other outputs"):
        runtime.apply(sent(world, None, world.values(1), effect=other[:-2]))


def test_what_says_nothing_that_can_be_compared_is_taken_up(
    world: World, effects: Effects, tmp_path: Path
) -> None:
    runtime = device(world)
    runtime.apply(sent(world, None, world.values(1), 1))
    runtime.apply(sent(world, None, world.values(2), 2, issued=None))
    runtime.apply(sent(world, None, world.values(3), 3, effect=b"of another example"))
    old = tmp_path / "device"
    old.mkdir()
    for file in (world.out / "device").iterdir():
        (old / file.name).write_bytes(file.read_bytes())
    manifest = json.loads((old / "manifest.json").read_text())
    del manifest["effect"]
    (old / "manifest.json").write_text(json.dumps(manifest))
    assert Effects.open(old) is None
    former = ModuleRuntime.load(old, "cam-1", public_key=world.public_key)
    assert former.model == world.model
    former.apply(sent(world, effects, world.values(1)))


@pytest.mark.parametrize(
    "effect",
    [
        7,
        {},
        {"positions": [], "scales": [], "tolerance": 1e-3},
        {"positions": [0], "scales": [0.0], "tolerance": 1e-3},
        {"positions": [0], "scales": [1.0], "tolerance": None},
        {"positions": [-1], "scales": [1.0], "tolerance": 1e-3},
        {"positions": [0] * 65, "scales": [1.0] * 65, "tolerance": 1e-3},
    ],
)
def test_a_malformed_effect_in_the_manifest_is_refused(world: World, tmp_path: Path, effect: Any) -> None:
    for file in (world.out / "device").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    manifest = json.loads((tmp_path / "manifest.json").read_text()) | {"effect": effect}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="'effect' is missing or malformed"):
        read_device(tmp_path)


def test_the_server_signs_the_effect_of_every_update(world: World) -> None:
    served = Served.open(world.out)
    assert served.effects is not None
    runtime, plain = device(world), replace(served, effects=None)
    runtime.observe(arrays(world.inputs))
    sizes = []
    for each in (plain, served):
        service = AdaptService(Models([each]), world.key, lifetime_s=60)
        data = service.adapt(runtime.request().encode())
        sizes.append(len(data))
        if each is served:
            assert runtime.apply(data).effect is not None
    assert 0 < sizes[1] - sizes[0] <= 64
