"""A device with any module: what it predicts is what torch gives, and what may not run does not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from bundles import make_bundle
from worlds import CASES, World, arrays, make_world

from paramcast.artifact.errors import ArtifactError
from paramcast.device import (
    BundleError,
    CloudError,
    Device,
    DeviceInputError,
    DeviceRuntime,
    Every,
    ModuleRuntime,
    NoEffect,
    NoPublicKey,
    OnDrift,
    ProbeFailed,
)
from paramcast.protocol import BadSignature, StaleSequence, WrongModel, make_key, public_key_hex
from paramcast.server import create_app

BLOCKED = ("torch", "onnx", "transformers", "fastapi", "scipy", "PIL", "av", "cv2")


@pytest.fixture(scope="module")
def conv(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("conv") / "artifact", "conv", labels=list("abcde"))


@pytest.fixture
def world(conv: World) -> World:
    """The same files, with no update sent yet."""
    conv.sequences.clear()
    return conv


def leaves(value: Any) -> Iterator[np.ndarray]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from leaves(part)
    elif hasattr(value, "items"):
        yield from leaves(list(value.values()))
    else:
        yield np.asarray(value)


def assert_same(got: Any, wanted: Any) -> None:
    for a, b in zip(leaves(got), leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_a_process_without_torch_gives_what_torch_gives(case: str, tmp_path: Path) -> None:
    if case == "bert":
        pytest.importorskip("transformers")
    world = make_world(tmp_path / "artifact", case)
    x = arrays(world.inputs)
    np.savez(tmp_path / "x.npz", **(x if isinstance(x, dict) else {"x": x[0] if isinstance(x, tuple) else x}))
    (tmp_path / "update").write_bytes(world.update())
    script = f"""
import sys
for name in {BLOCKED!r}:
    sys.modules[name] = None
import numpy as np
from pathlib import Path
from paramcast.device import Device
x = dict(np.load({str(tmp_path / "x.npz")!r}))
x = x["x"] if list(x) == ["x"] else x
device = Device({str(tmp_path / "artifact")!r}, "cam-1", public_key={world.public_key!r})
def flat(value):
    if isinstance(value, dict):
        value = list(value.values())
    return [leaf for part in value for leaf in flat(part)] if isinstance(value, list) else [value]
base = flat(device.predict(x))
device.observe(x)
assert len(device.runtime.request().encode()) > 0
device.runtime.apply(Path({str(tmp_path / "update")!r}).read_bytes())
own = flat(device.predict(x))
assert device.bake()
baked = flat(device.predict(x))
np.savez({str(tmp_path / "y.npz")!r}, *base, *own, *baked)
"""
    result = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    made = list(np.load(tmp_path / "y.npz").values())
    base, own = (
        list(leaves(world.truth(world.inputs))),
        list(leaves(world.truth(world.inputs, world.values(1)))),
    )
    assert_same(made, [*base, *own, *own])
    assert not np.allclose(base[0], own[0], atol=1e-3)


def test_it_asks_a_server_in_its_process(world: World) -> None:
    device = Device(world.out, "cam-1", server=world)
    x = arrays(world.inputs)
    assert device.observe(x) is False  # no policy: it does not ask by itself
    package = device.adapt()
    assert package.sequence == device.status["sequence"] == 1
    assert device.status["public_key"] == world.public_key
    assert device.status["cloud"]["taken"] == 1
    assert device.labels == tuple("abcde")
    assert_same(device.predict(x), world.truth(world.inputs, world.values(1)))


def test_status_is_json(world: World) -> None:
    device = Device(world.out / "device")
    assert json.loads(json.dumps(device.status)) == device.status
    assert device.status["source"] == "base"
    assert device.status["task"] == "conv"
    assert device.status["adapter"] == "basis"
    assert device.status["cloud"] is None


def test_without_a_server_it_cannot_ask(world: World) -> None:
    device = Device(world.out)
    with pytest.raises(DeviceInputError, match="no server"):
        device.adapt()
    with pytest.raises(DeviceInputError, match="a policy asks a server"):
        Device(world.out, policy=OnDrift())
    with pytest.raises(DeviceInputError, match="observe at least one example"):
        Device(world.out, server=world).adapt()
    with pytest.raises(DeviceInputError, match=r"adapt\(bytes\)"):
        Device(world.out, server=3)


def test_a_server_that_is_away_is_told(world: World) -> None:
    class Away:
        public_key = world.public_key

        def adapt(self, data: bytes) -> bytes:
            raise CloudError("it sleeps")

    device = Device(world.out, server=Away(), policy=Every(1))
    assert device.observe(arrays(world.inputs)) is False
    assert "it sleeps" in device.status["cloud"]["last_failure"]["message"]
    with pytest.raises(CloudError, match="it sleeps"):
        device.adapt()


def test_over_http(world: World) -> None:
    from backends import serving

    class Backend:
        model, form, task = world.model, "basis", "conv"
        parameters = world.adapted.adapter.shapes
        uplink_dims = (4, 1)

        def generate(self, requests: list[Any]) -> list[dict[str, np.ndarray]]:
            return [world.values(7) for _ in requests]

    with serving(create_app(Backend(), world.key)) as url, Device(world.out, "cam-1", server=url) as device:
        device.observe(arrays(world.inputs))
        assert device.adapt().sequence == 1
        values = dict(device.runtime._parameters.current.parameters)
        assert_same(device.predict(arrays(world.inputs)), world.truth(world.inputs, values))


def test_the_loop_asks_on_drift(world: World) -> None:
    device = Device(world.out, "cam-1", server=world, policy=OnDrift(first=4, support=8, refresh=None))
    random = np.random.default_rng(0)
    taken = [device.observe(random.normal(size=(1, 3, 8, 8)).astype("f4")) for _ in range(12)]
    assert taken.index(True) == 3
    settled = sum(taken)
    moved = [device.observe((random.normal(size=(1, 3, 8, 8)) * 9 + 30).astype("f4")) for _ in range(10)]
    assert sum(moved) > 0
    assert device.status["cloud"]["asked"] == settled + sum(moved)


def make_device(world: World, **options: Any) -> ModuleRuntime:
    return ModuleRuntime.load(world.out, "cam-1", public_key=world.public_key, **options)


def test_an_update_without_effect_is_refused(world: World, tmp_path: Path) -> None:
    """The graph reads every target, but a layer's output is lost on its way: as on a wrong graph."""
    shutil.copytree(world.out / "device", tmp_path / "device")
    model = onnx.load(tmp_path / "device" / "model.onnx")
    last = next(node for node in model.graph.node if "output" in node.output)
    last.output[0] = "lost"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((4, 5), "f4"), "zeros"))
    model.graph.node.append(onnx.helper.make_node("Identity", ["zeros"], ["output"]))
    onnx.save(model, tmp_path / "device" / "model.onnx")
    from test_read import edit

    edit(tmp_path / "device", lambda manifest: None)
    device = ModuleRuntime.load(tmp_path / "device", "cam-1", public_key=world.public_key)
    with pytest.raises(NoEffect, match="no output"):
        device.apply(world.update(model=device.model))
    assert device.status()["sequence"] == 0
    assert device.status()["refused"]["error"] == "NoEffect"


def test_a_null_update_is_no_update_without_effect(world: World) -> None:
    """It is what a gain predictor sends where nothing would be gained."""
    device = make_device(world)
    device.apply(world.update(values={"codes": np.zeros(8, "f4")}))
    assert_same(device.predict(arrays(world.inputs)), world.truth(world.inputs))


def test_what_may_not_run_is_refused_and_changes_nothing(world: World) -> None:
    device, x = make_device(world), arrays(world.inputs)
    before = device.predict(x)
    good = world.update()
    other = World(world.adapted, world.inputs, world.out, world.model, make_key())
    for data, error in [
        (other.update(), BadSignature),
        (world.update(model="0" * 64), WrongModel),
        (world.update(values={"codes": np.full(8, 3e38, "f4")}), ProbeFailed),
    ]:
        with pytest.raises(error):
            device.apply(data)
    np.testing.assert_array_equal(device.predict(x), before)
    device.apply(good)
    with pytest.raises(StaleSequence):
        device.apply(good)
    with pytest.raises(NoPublicKey):
        ModuleRuntime.load(world.out, "cam-1").apply(good)


def test_roll_back_and_restart(world: World, tmp_path: Path) -> None:
    x = arrays(world.inputs)
    device = make_device(world, store=tmp_path)
    for _ in range(2):
        device.apply(world.update())
    second = device.predict(x)
    device.roll_back()
    assert_same(device.predict(x), world.truth(world.inputs, world.values(1)))
    again = make_device(world, store=tmp_path)
    assert (again.status()["source"], again.status()["sequence"]) == ("store", 1)
    again.roll_back(2)
    np.testing.assert_array_equal(again.predict(x), second)
    again.roll_back(0)
    assert_same(again.predict(x), world.truth(world.inputs))
    with pytest.raises(DeviceInputError, match="no package 7"):
        again.roll_back(7)


def test_a_bake_changes_no_answer(world: World) -> None:
    device, x = make_device(world), arrays(world.inputs)
    device.apply(world.update())
    before = device.predict(x)
    assert device.bake()
    assert device.status()["baked"]
    np.testing.assert_allclose(device.predict(x), before, atol=1e-6)
    device.apply(world.update())
    assert not device.status()["baked"]
    assert_same(device.predict(x), world.truth(world.inputs, world.values(2)))


def test_users_have_examples_and_updates_of_their_own(world: World) -> None:
    device, x = Device(world.out, "cam-1", server=world), arrays(world.inputs)
    ann, bob = device.for_user("ann"), device.for_user("bob")
    assert (ann.id, bob.id) == ("cam-1:ann", "cam-1:bob")
    ann.observe(x)
    ann.adapt()
    assert (ann.status["support"], bob.status["support"], device.status["support"]) == (4, 0, 0)
    assert_same(bob.predict(x), world.truth(world.inputs))
    assert_same(ann.predict(x), world.truth(world.inputs, world.values(1)))
    with pytest.raises(DeviceInputError):
        device.for_user("")


def test_what_is_sent_is_the_uplink_of_the_base_module_s_features(world: World) -> None:
    device, x = make_device(world), arrays(world.inputs)
    device.apply(world.update())  # the features stay those of the base
    device.observe(x)
    sent = device.request()
    flat = x.reshape(4, -1)
    features = np.stack([flat.mean(1), flat.var(1), flat.max(1), flat.min(1)], 1)
    artifact = device.artifact
    np.testing.assert_allclose(
        sent.anchors, (features - artifact.mean) @ artifact.matrix, rtol=1e-4, atol=1e-4
    )
    assert sent.queries.shape == (0, 1)
    with pytest.raises(DeviceInputError, match="example 1 are not finite"):
        device.observe(np.concatenate([x[:1], np.full((1, 3, 8, 8), np.nan, "f4")]))


def test_folders_of_the_other_kind_are_named(world: World, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "video")
    with pytest.raises(ArtifactError, match="video application"):
        Device(bundle)
    with pytest.raises(BundleError, match=r"paramcast\.device\.Device"):
        DeviceRuntime.load(world.out, "cam-1")
    with pytest.raises(DeviceInputError, match="device id"):
        Device(world.out, "no id")
    with pytest.raises(DeviceInputError, match="public key"):
        Device(world.out, public_key="key")


def test_an_old_bundle_whose_graph_holds_a_parameter_is_refused(tmp_path: Path) -> None:
    from bundles import base_parameters, reseal

    bundle = make_bundle(tmp_path / "video")
    DeviceRuntime.load(bundle, "cam-1")
    model = onnx.load(bundle / "answer.onnx")
    value = base_parameters("full")["hidden.bias"]
    model.graph.initializer.append(onnx.numpy_helper.from_array(value, "hidden.bias"))
    onnx.save(model, bundle / "answer.onnx")
    reseal(bundle, "answer.onnx")
    with pytest.raises(BundleError, match=r"no effect: hidden\.bias must be fed"):
        DeviceRuntime.load(bundle, "cam-1")


def test_readers_never_see_half_an_update(world: World) -> None:
    """A snapshot holds all targets of one update, and is swapped by one assignment."""
    device = make_device(world)
    device.apply(world.update())
    held = device._parameters.current
    device.apply(world.update())
    assert device._parameters.current is not held
    assert (
        set(held.feed) == set(device._parameters.current.feed) == {t.input for t in device.artifact.targets}
    )
    assert not any(value.flags.writeable for value in held.feed.values())
    assert public_key_hex(world.key) == device.public_key
