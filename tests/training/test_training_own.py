"""A model of one's own: what it is trained on, what it is left as, what it gains, and that it travels."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from own_devices import Corners, corners_devices, fit_corners
from torch import nn
from torch.nn import functional as F

from paramcast.errors import InputError
from paramcast.hypernet.forms import FORMS
from paramcast.protocol import AdaptRequest, make_key, open_package, public_key_hex
from paramcast.server.service import AdaptService
from paramcast.training.controls import Metric, Result
from paramcast.training.own import (
    OwnDevice,
    OwnModel,
    OwnOptions,
    SeenDevicesWarning,
    evaluate_own,
    pooled,
    train_own,
)
from paramcast.training.own.evaluate import packages
from paramcast.training.own.train import _lesson, _untrained
from paramcast.video.training.model import ModelError
from paramcast.video.training.serving import OnnxBackend

QUICK = OwnOptions(("first",), "residual", uplink_dim=3, steps=4, folds=2)


@pytest.fixture(scope="module")
def trained() -> OwnModel:
    """Adapted to offsets, of which base models of folds were trained on none."""
    torch.manual_seed(0)
    options = replace(QUICK, steps=150, rate=3e-3)
    devices, validation = corners_devices(40, 1, truth=True), corners_devices(8, 2, truth=True)
    return train_own(Corners(), devices, validation, options, fit_base=fit_corners)


@pytest.fixture
def quick() -> OwnModel:
    """Hardly trained, without an oracle."""
    torch.manual_seed(0)
    return train_own(Corners(), corners_devices(4, 1), corners_devices(2, 2), QUICK)


def test_devices_gain_by_packages_of_their_own(trained: OwnModel) -> None:
    result = evaluate_own(trained, corners_devices(30, 3, truth=True))
    assert list(result.values) == ["base", "constant", "shuffled", "own", "oracle"]
    assert result.gain.low > 3
    assert result.device_matters.low > 3
    assert result.metric.name == "accuracy"
    assert result.devices[0] == "s3-0"


def test_without_a_shift_there_is_nothing_to_gain(trained: OwnModel) -> None:
    result = evaluate_own(trained, corners_devices(20, 4, offset=0.0, truth=True))
    assert result.values["base"].mean() > 90
    assert result.gain.mean < 2


def test_a_package_depends_on_the_support_set_alone_and_on_no_label(quick: OwnModel) -> None:
    shake(quick)
    device = corners_devices(1, 5)[0]
    wanted = packages(quick, [device], 8)
    later = torch.arange(len(device)) >= 8
    blind = replace(
        device,
        labels=torch.zeros_like(device.labels),
        inputs=tuple(each.clone() for each in device.inputs),
        context=np.where(later.numpy()[:, None], 9.0, device.context),
    )
    same(packages(quick, [blind], 8), wanted)
    other = replace(device, context=device.context + 1)
    assert not torch.allclose(packages(quick, [other], 8)["first.weight"], wanted["first.weight"])


@pytest.mark.parametrize("form", FORMS)
def test_every_weight_that_makes_packages_learns(form: str) -> None:
    devices = corners_devices(16, 1)
    torch.manual_seed(0)
    model = _untrained(Corners(), devices, replace(QUICK, form=form, targets=("first", "head.bias")))
    adaptor = model.adaptor.train()
    optimizer = torch.optim.SGD(adaptor.parameters(), 0.5)
    reached = {name: 0.0 for name, _ in adaptor.named_parameters()}
    for step in range(4):  # with the prior and with the posterior; factors of lowrank wait for each other
        torch.manual_seed(step)
        optimizer.zero_grad()
        _lesson(model, adaptor, devices, np.random.default_rng(step), F.cross_entropy).backward()
        for name, parameter in adaptor.named_parameters():
            if parameter.grad is not None:
                reached[name] = max(reached[name], float(parameter.grad.abs().max()))
        optimizer.step()
    assert any("heads" in name for name in reached)
    assert [name for name, most in reached.items() if most == 0] == []


def test_a_module_that_is_trained_already_is_left_as_it_is() -> None:
    torch.manual_seed(0)
    module = Corners().train()
    module.head.weight.requires_grad_(False)
    before = copy.deepcopy(module.state_dict())
    model = train_own(module, corners_devices(4, 1), corners_devices(2, 2), QUICK)
    same(module.state_dict(), before)
    assert not module.training
    assert [parameter.requires_grad for parameter in module.parameters()] == [True, True, False, True]
    assert not {id(p) for p in module.parameters()} & {id(p) for p in model.adaptor.parameters()}
    device = corners_devices(1, 3)[0]
    with torch.no_grad():
        plain = module(*device.inputs)
        with model.use({name: np.ones(shape, np.float32) for name, shape in model.shapes.items()}) as adapted:
            assert not torch.allclose(adapted(*device.inputs), plain)
        torch.testing.assert_close(module(*device.inputs), plain, atol=0, rtol=0)


def test_every_fold_s_base_starts_alike_and_has_not_seen_the_fold() -> None:
    devices, seen, begun = corners_devices(8, 1), [], []

    def fit_base(module: nn.Module, shown: Sequence[OwnDevice]) -> None:
        assert module.training
        begun.append(copy.deepcopy(module.state_dict()))
        seen.append({device.id for device in shown})
        fit_corners(module, shown, steps=1)

    module = Corners()
    initial = copy.deepcopy(module.state_dict())
    model = train_own(module, devices, corners_devices(2, 2), QUICK, fit_base=fit_base)
    for state in begun:
        same(state, initial)
    everybody = {device.id for device in devices}
    *folds, last = seen
    assert last == everybody
    assert len(folds) == QUICK.folds
    left_out = [everybody - shown for shown in folds]
    assert set().union(*left_out) == everybody
    assert sum(map(len, left_out)) == len(everybody)
    for fold in left_out:  # devices 2n and 2n + 1 are of one group
        assert {int(name.split("-")[1]) ^ 1 for name in fold} == {int(n.split("-")[1]) for n in fold}
    final = copy.deepcopy(model.module.state_dict())
    fit_corners(module.train(), devices, steps=0)
    same(final, module.state_dict())
    assert not torch.equal(final["head.weight"], initial["head.weight"])


def test_devices_that_the_base_was_trained_on_are_noticed() -> None:
    torch.manual_seed(0)
    devices = [replace(d, labels=torch.randint(4, (20,))) for d in corners_devices(6, 1, examples=20)]
    module = Corners()
    fit_corners(module, devices, steps=400)
    validation = [replace(d, labels=torch.randint(4, (20,))) for d in corners_devices(6, 2, examples=20)]
    with pytest.warns(SeenDevicesWarning, match="give fit_base"):
        train_own(module, devices, validation, QUICK)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train_own(module, corners_devices(6, 3), corners_devices(6, 2), QUICK)


def test_the_seed_decides(quick: OwnModel) -> None:
    torch.manual_seed(0)
    again = train_own(Corners(), corners_devices(4, 1), corners_devices(2, 2), QUICK)
    same(again.adaptor.state_dict(), quick.adaptor.state_dict())


def test_saved_and_loaded_it_makes_the_same_packages(trained: OwnModel, tmp_path: Path) -> None:
    trained.save(tmp_path / "model")
    loaded = OwnModel.load(tmp_path / "model", Corners())
    assert loaded.sha256() == trained.sha256()
    assert loaded.config == trained.config
    devices = corners_devices(5, 6, truth=True)
    for condition in trained.adaptors:
        same(packages(loaded, devices, 8, condition), packages(trained, devices, 8, condition))
    same(loaded.module.state_dict(), trained.module.state_dict())


def test_what_is_no_model_of_this_module_is_refused(quick: OwnModel, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no whole model"):
        OwnModel.load(tmp_path, Corners())
    quick.save(tmp_path)
    with pytest.raises(ModelError, match="not a model of this module"):
        OwnModel.load(tmp_path, nn.Linear(2, 2))
    other = Corners()
    quick.module.load_state_dict(other.state_dict())
    quick.save(tmp_path / "other")
    (tmp_path / "base.safetensors").write_bytes((tmp_path / "other" / "base.safetensors").read_bytes())
    with pytest.raises(ModelError, match="changed"):
        OwnModel.load(tmp_path, Corners())


def test_packages_travel_signed_and_do_what_they_did_in_the_cloud(trained: OwnModel) -> None:
    device, key = corners_devices(1, 7, truth=True)[0], make_key()
    cloud = AdaptService(OnnxBackend(trained), key, lifetime_s=60)
    data = trained.request("watch-7", device.context[:8]).encode()
    assert AdaptRequest.decode(data).anchors.shape == (8, 3)
    assert len(data) < 700
    package = open_package(
        cloud.adapt(data),
        public_key_hex(key),
        device="watch-7",
        model=trained.sha256(),
        after=0,
        now=time.time(),
        expected=trained.shapes,
    )
    assert (package.form, package.sequence) == ("residual", 1)
    made = packages(trained, [device], 8)
    for name, value in package.tensors.items():
        np.testing.assert_allclose(value, made[name][0].numpy(), atol=0.02)
    with torch.no_grad():
        base = trained.module(*device.inputs)
        with trained.adaptor.adapted.use(made) as module:
            wanted = module(*device.inputs)
        with trained.use(package.tensors) as module:
            found = module(*device.inputs)
    torch.testing.assert_close(found, wanted, atol=0.5, rtol=0.05)  # the parameters were rounded to int8
    assert (found - base).abs().max() > 3 * (found - wanted).abs().max()


def test_of_several_parts_the_middle_one_is_sent(quick: OwnModel) -> None:
    parts = np.random.default_rng(0).normal(size=(4, 3, 3)).astype(np.float32)
    sent, middle = quick.request("d", parts).anchors, quick.request("d", parts[:, 1]).anchors
    np.testing.assert_array_equal(sent, middle)
    known = quick.inputs([parts], [None], training=True)
    assert known.clips is not None
    np.testing.assert_allclose(known.clips[0].numpy(), quick.uplink(parts.mean(1)), atol=1e-5)


def test_a_device_of_several_results_counts_once() -> None:
    first = Result(Metric("accuracy"), 8, ("a", "b"), {"own": np.array([10.0, 20.0])})
    second = Result(Metric("accuracy"), 8, ("b", "c"), {"own": np.array([40.0, 50.0])})
    found = pooled([first, second])
    assert found.devices == ("a", "b", "c")
    assert found.values["own"].tolist() == [10, 30, 50]
    some = found.among({"c", "a"})
    assert (some.devices, some.values["own"].tolist()) == (("a", "c"), [10, 50])


def broken(**changes: object) -> OwnDevice:
    return replace(corners_devices(1, 9)[0], **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": torch.zeros(3)},
        {"inputs": ()},
        {"context": np.zeros(40)},
        {"context": np.full((40, 2), np.nan)},
    ],
    ids=["labels", "inputs", "flat", "nan"],
)
def test_a_device_of_unlike_or_broken_arrays_is_refused(changes: dict) -> None:
    with pytest.raises(InputError, match="device s9-0"):
        broken(**changes)


def test_devices_that_do_not_go_together_are_refused(quick: OwnModel) -> None:
    one, two = corners_devices(2, 9)
    wrong = [
        ([], "no devices"),
        ([one, one], "two devices are called 's9-0'"),
        ([one, replace(two, context=two.context[:, :2])], "unlike each other"),
        ([one, replace(two, truth=np.zeros(2))], "unlike each other"),
    ]
    for devices, message in wrong:
        with pytest.raises(InputError, match=message):
            train_own(Corners(), devices, corners_devices(2, 2), QUICK)
    with pytest.raises(InputError, match="two devices are called"):
        train_own(Corners(), corners_devices(4, 1), corners_devices(2, 1), QUICK)
    with pytest.raises(InputError, match="too few examples; at least 9"):
        train_own(Corners(), corners_devices(4, 1), corners_devices(2, 2, examples=8), QUICK)
    with pytest.raises(InputError, match="cannot be put into 2 folds"):
        train_own(Corners(), [one, two], corners_devices(2, 2), QUICK, fit_base=fit_corners)
    with pytest.raises(InputError, match="'tail' matches no module"):
        train_own(Corners(), [one, two], corners_devices(2, 2), replace(QUICK, targets=("tail",)))
    with pytest.raises(InputError, match="two devices at least"):
        evaluate_own(quick, [one])
    with pytest.raises(InputError, match="at least 41"):
        evaluate_own(quick, [one, two], support=40)


def shake(model: OwnModel) -> None:
    """Random heads, so that packages differ from the base values."""
    for head in model.adaptor.fda.generator.heads.values():
        nn.init.normal_(head.weight, std=0.1)  # type: ignore[arg-type]


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], atol=0, rtol=0)
