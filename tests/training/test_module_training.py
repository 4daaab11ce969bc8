"""Training of any module: its gain, the module it leaves, its checks, and going on after a kill."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from corners import Corners, corners
from torch import Tensor, nn
from torch.nn import functional as F

import paramcast as pc
from paramcast.errors import InputError
from paramcast.training.bases import SeenDevicesWarning, Supervised
from paramcast.training.scores import cross_entropy

QUICK = Supervised(cross_entropy, steps=60, rate=0.02)


@pytest.fixture(scope="module")
def model() -> pc.AdaptableModel:
    """A model that adapts to offsets, with an oracle."""
    torch.manual_seed(0)
    made = pc.adaptable(Corners(), ["first"], adapter=pc.Basis(rank=16))
    return made.fit(
        corners(40, 1, domain=True), corners(8, 2, domain=True), 150, base=QUICK, rate=3e-3, folds=2
    )


class Versioned(Corners):
    """Asks for the version of the state that it reads, as torchvision's MNASNet does."""

    _version = 2

    def _load_from_state_dict(self, state: object, prefix: str, metadata: dict, *rest: object) -> None:
        if metadata.get("version") != self._version:
            raise ValueError(f"version should be {self._version} instead of {metadata.get('version')}")
        super()._load_from_state_dict(state, prefix, metadata, *rest)  # type: ignore[arg-type]


def test_a_module_finds_the_version_of_its_state(tmp_path: Path) -> None:
    torch.manual_seed(0)
    pc.adaptable(Versioned(), ["first"]).fit(corners(4, 1), corners(2, 2), 2).save(tmp_path / "model")
    assert pc.load(tmp_path / "model", Versioned()).fitted.summary["score"] == "accuracy"


@pytest.mark.slow
def test_devices_gain_by_their_own_updates(model: pc.AdaptableModel) -> None:
    report = model.evaluate(corners(30, 3, domain=True), support=[2, 8])
    few, many = report.results
    controls = ["base", "constant", "oracle", "own", "shuffled", "ungated", "best_free"]
    assert list(many.values) == controls
    assert many.gain.low > 3
    assert many.device_matters.low > 3
    assert many.values["own"].mean() > few.values["own"].mean()
    row = report.rows[1]
    assert (row["support"], row["devices"], row["metric"]) == (8, 30, "accuracy")
    assert row["cost"]["labels"] == 0
    assert 0 < row["cost"]["bytes_down"] < 600
    assert report.verdict() == "There is a gain, and it is the device's own update that makes it."


def test_without_a_shift_there_is_nothing_to_lose(model: pc.AdaptableModel) -> None:
    result = model.evaluate(corners(20, 4, offset=0.0, domain=True)).results[0]
    assert result.values["base"].mean() > 90
    assert result.better("own", "base").mean() > -2


def test_an_update_depends_on_the_support_set_alone_and_on_no_label(model: pc.AdaptableModel) -> None:
    (device,) = corners(1, 5)
    wanted = model.update(tuple(each[:8] for each in device.inputs))
    again = model.update(tuple(each[:8].clone() for each in device.inputs))
    other = model.update(tuple(each[8:16] for each in device.inputs))
    assert all(np.array_equal(wanted[name], again[name]) for name in wanted)
    assert any(not np.allclose(wanted[name], other[name]) for name in wanted)


def test_it_is_saved_and_loaded(model: pc.AdaptableModel, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    again = pc.load(tmp_path / "model", Corners())
    assert again.fingerprint() == model.fingerprint()
    devices = corners(4, 6, domain=True)
    before, after = (each.evaluate(devices).rows for each in (model, again))
    for row in (*before, *after):
        row["cost"].pop("cloud_ms")
    assert before == after
    with pytest.raises(InputError, match="not a model of this module"):
        pc.load(tmp_path / "model", nn.Linear(2, 2))
    (tmp_path / "model" / "base.safetensors").unlink()
    with pytest.raises(InputError, match="no complete model"):
        pc.load(tmp_path / "model", Corners())


def test_reports_are_written(model: pc.AdaptableModel, tmp_path: Path) -> None:
    report = model.evaluate(corners(4, 6, domain=True))
    page = report.save(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert "best_free" in page
    assert '"rows"' in report.save(tmp_path / "report.json").read_text(encoding="utf-8")
    assert "own against shuffled" in report.table()


def test_a_trained_module_is_left_as_it_was() -> None:
    torch.manual_seed(0)
    net = Corners().train()
    net.head.weight.requires_grad_(False)
    before = copy.deepcopy(net.state_dict())
    pc.adaptable(net, ["first"]).fit(corners(4, 1), corners(2, 2), 2)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [parameter.requires_grad for parameter in net.parameters()] == [True, True, False, True]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    pickle.dumps(net)


class Sequential(nn.Module):
    """A recurrent tagger: tokens (N, T) by keyword -> logits (N, T, 3), time first inside."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.body = nn.GRU(8, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, *, tokens: Tensor) -> Tensor:
        """Tag each token."""
        hidden, _ = self.body(self.embed(tokens).transpose(0, 1))
        logits: Tensor = self.head(hidden.transpose(0, 1))
        return logits


def tagged(count: int, seed: int) -> list[pc.DeviceData]:
    rng = np.random.default_rng(seed)
    made = []
    for place in range(count):
        tokens = rng.integers(11, size=(12, 5))
        labels = np.where(rng.random(tokens.shape) < 0.1, -1, tokens % 3)
        made.append(pc.DeviceData(f"t{seed}-{place}", {"tokens": tokens}, labels))
    return made


@pytest.mark.parametrize("adapter", [pc.Basis(4), pc.LowRank(1), pc.Residual(), pc.Full()])
def test_sequences_of_tokens_by_keyword(adapter: object, tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = pc.adaptable(Sequential(), ["body", "head"], adapter=adapter, context="body")
    report = made.fit(tagged(4, 1), tagged(2, 2), 2).evaluate(tagged(3, 3), support=2)
    assert report.rows[0]["metric"] == "accuracy"


def test_regression_is_better_where_the_error_is_smaller() -> None:
    rng = np.random.default_rng(0)

    def device(name: str) -> pc.DeviceData:
        x, shift = rng.normal(size=(40, 3)).astype(np.float32), rng.normal() * 2
        return pc.DeviceData(name, ((x + shift).astype(np.float32),), x.sum(1, keepdims=True))

    train, held, test = (
        [device(f"{kind}{i}") for i in range(n)] for kind, n in (("a", 30), ("b", 6), ("c", 20))
    )
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 16), nn.GELU(), nn.Linear(16, 1))
    made = pc.adaptable(net, ["0"]).fit(train, held, 150, base=True, rate=3e-3, folds=2)
    result = made.evaluate(test).results[0]
    assert (result.metric.name, result.higher_is_better) == ("mae", False)
    assert result.values["own"].mean() < result.values["base"].mean()
    assert result.gain.low > 0


def test_several_labels_and_scores_by_name() -> None:
    rng = np.random.default_rng(0)
    devices = [
        pc.DeviceData(
            f"m{i}", (rng.normal(size=(20, 4)).astype(np.float32),), rng.integers(2, size=(20, 3)) * 1.0
        )
        for i in range(6)
    ]
    torch.manual_seed(0)
    made = pc.adaptable(nn.Linear(4, 3), ["*"]).fit(devices[:4], devices[4:], 2)
    assert made.score.name == "label_accuracy"  # type: ignore[union-attr]
    with pytest.raises(InputError, match="no score is called 'best'"):
        pc.adaptable(nn.Linear(4, 3), ["*"], score="best").fit(devices[:4], devices[4:], 2)


def test_a_score_in_the_wrong_direction_is_found() -> None:
    def error(outputs: dict[str, Tensor], labels: Tensor) -> float:
        return float(F.cross_entropy(outputs["logits"], labels))

    torch.manual_seed(0)
    net = Corners()
    QUICK(net, corners(6, 1))
    with pytest.raises(InputError, match="lower is better"):
        pc.adaptable(net, ["first"], score=error).fit(corners(4, 2), corners(4, 3), 2)
    score = pc.Score(error, "cross-entropy", higher_is_better=False)
    pc.adaptable(net, ["first"], score=score).fit(corners(4, 2), corners(4, 3), 2)


def test_a_base_that_has_seen_its_devices_is_told() -> None:
    rng = np.random.default_rng(0)

    def device(name: str) -> pc.DeviceData:
        return pc.DeviceData(name, (rng.normal(size=(30, 8)).astype(np.float32),), rng.integers(2, size=30))

    devices = [device(f"d{i}") for i in range(8)]
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 2))
    Supervised(cross_entropy, steps=300, rate=0.01)(net, devices[:4])
    with pytest.warns(SeenDevicesWarning, match="base=True"):
        pc.adaptable(net, ["0"]).fit(devices[:4], devices[4:], 1)


def test_simulated_devices_are_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # no job in another process draws what this test counts
    drawn: list[float] = []

    def augment(device: pc.DeviceData, rng: np.random.Generator) -> pc.DeviceData:
        shift = float(rng.normal())
        drawn.append(shift)
        x, y = device.inputs
        return pc.DeviceData(device.id, (x + shift, y), device.labels, group=device.group)

    torch.manual_seed(0)
    pc.adaptable(Corners(), ["first"]).fit(
        corners(4, 1), corners(2, 2), 2, augment=augment, base=QUICK, folds=2
    )
    assert len(set(drawn)) == len(drawn) > 60


def test_a_killed_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(folder: Path, die_in: str | None = None) -> pc.AdaptableModel:
        torch.manual_seed(0)
        made = pc.adaptable(Corners(), ["first"], adapter=pc.Basis(4))
        if die_in:
            from paramcast.training import trainer

            real = trainer._fit_hypernet

            def dying(plan: trainer.Plan, condition: str, work: Path) -> None:
                if condition == die_in:
                    raise KeyboardInterrupt
                real(plan, condition, work)

            monkeypatch.setattr(trainer, "_fit_hypernet", dying)
        made.fit(corners(4, 1), corners(2, 2), 8, base=QUICK, folds=2, folder=folder)
        return made

    whole = trained(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "cut", "constant")
    monkeypatch.undo()
    assert (tmp_path / "cut" / "hypernet-support.safetensors").exists()
    again = trained(tmp_path / "cut")
    assert again.fingerprint() == whole.fingerprint()
    device = corners(1, 3)[0]
    assert all(
        np.array_equal(value, again.update(device.inputs)[name])
        for name, value in whole.update(device.inputs).items()
    )
    assert not (tmp_path / "cut").exists()


def test_arrays_on_a_disk_are_read_in_place(tmp_path: Path) -> None:
    whole = corners(6, 1, keywords=True)
    for device in whole:
        for name, values in device.inputs.items():
            np.save(tmp_path / f"{device.id}-{name}.npy", values.numpy())
    mapped = [
        pc.DeviceData(d.id, {n: np.load(tmp_path / f"{d.id}-{n}.npy", mmap_mode="r") for n in "xy"}, d.labels)
        for d in whole
    ]
    shown = np.load(tmp_path / f"{whole[0].id}-x.npy", mmap_mode="r+")
    shown[0] = 7
    shown.flush()
    assert pc.DeviceData("m", {"x": shown}, whole[0].labels).inputs["x"].data_ptr() == shown.ctypes.data
    shown[0] = whole[0].inputs["x"][0].numpy()
    shown.flush()
    updates = []
    for devices in (whole, mapped):
        torch.manual_seed(0)
        made = pc.adaptable(Corners(), ["first"]).fit(devices[:4], devices[4:], 4)
        updates.append(made.update(whole[0].inputs))
    assert all(np.array_equal(value, updates[1][name]) for name, value in updates[0].items())


def test_mixed_precision_learns_as_well(model: pc.AdaptableModel) -> None:
    torch.manual_seed(0)
    mixed = pc.adaptable(Corners(), ["first"], adapter=pc.Basis(rank=16)).fit(
        corners(40, 1, domain=True),
        corners(8, 2, domain=True),
        150,
        base=QUICK,
        rate=3e-3,
        folds=2,
        precision=torch.bfloat16,
    )
    devices = corners(20, 3, domain=True)
    gains = [each.evaluate(devices).results[0].gain.mean for each in (mixed, model)]
    assert gains[0] > 0.7 * gains[1] > 0


def bad(**changes: object) -> Sequence[pc.DeviceData]:
    x = np.zeros((4, 2), np.float32)
    return [pc.DeviceData(**{"id": "a", "inputs": (x,), "labels": np.zeros(4, int), **changes})]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"id": "a b"}, "no device id"),
        ({"labels": np.zeros(3, int)}, "numbers of examples differ"),
        ({"inputs": ()}, "hold no array"),
        ({"inputs": (np.zeros((4, 2)), np.zeros((3, 2)))}, "examples on their first axis"),
        ({"inputs": (np.array(["x"] * 4),)}, "arrays of numbers"),
        ({"inputs": ([[1], [1, 2], [3], [4]],)}, "unequal lengths"),
        ({"context": np.full((4, 2), np.nan)}, "must be finite"),
        ({"context": np.zeros(4)}, "must be finite, of shape"),
    ],
)
def test_data_of_a_device_are_checked(changes: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=told):
        bad(**changes)


def test_sets_of_devices_are_checked() -> None:
    one, two = corners(4, 1), corners(2, 2)
    made = pc.adaptable(Corners(), ["first"])
    with pytest.raises(InputError, match="no training devices"):
        made.fit([], two, 1)
    with pytest.raises(InputError, match="are called 's1-0'"):
        made.fit(one, [*two, one[0]], 1)
    with pytest.raises(InputError, match="at least 9 are needed"):
        made.fit(one, corners(2, 2, examples=8), 1)
    with pytest.raises(InputError, match="folds must be 2 or more"):
        made.fit(one, two, 1, folds=1)
    with pytest.raises(InputError, match="belong to one group"):
        made.fit(one[:2], two, 1, base=True)
    with pytest.raises(InputError, match="call fit"):
        made.evaluate(two)
    with pytest.raises(InputError, match="cannot be called"):
        pc.adaptable(nn.Linear(5, 2), ["*"]).fit(one, two, 1)


def test_devices_of_a_table_and_of_a_dataset() -> None:
    table = {
        "user": np.array(["b", "a", "b", "a"]),
        "house": np.array([1, 2, 1, 2]),
        "x": np.arange(4.0),
        "y": np.arange(4.0) * 2,
        "what": np.array(["run", "walk", "walk", "run"]),
    }
    b, a = pc.DeviceData.from_table(table, inputs=["x", "y"], label="what", device="user", group="house")
    assert (b.id, a.id, b.group) == ("b", "a", "1")
    assert b.inputs[0].tolist() == [[0, 0], [2, 4]]
    assert b.labels.tolist() == [0, 1]
    with pytest.raises(InputError, match="no column 'z'"):
        pc.DeviceData.from_table(table, inputs=["z"], label="what", device="user")
    rows = [((np.ones(3) * i,), i % 2, f"d{i % 2}") for i in range(6)]
    first, second = pc.DeviceData.from_dataset(
        rows, device=lambda item: item[2], example=lambda item: item[:2]
    )
    assert first.inputs[0].shape == second.inputs[0].shape == (3, 3)


def test_an_artifact_holds_no_example_of_a_user(model: pc.AdaptableModel, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    artifact = model.export(tmp_path / "artifact", key=tmp_path / "signing.key")
    probe = load_file(artifact / "device" / "probe.safetensors")
    seen = [np.concatenate([each.numpy().ravel() for each in d.inputs]) for d in corners(40, 1)]
    for value in probe.values():
        assert not any(np.isin(value.ravel(), each).any() for each in seen)
