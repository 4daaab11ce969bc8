"""Users' signals: how files become devices, who is kept for testing, and the benchmark's rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from paramcast.bench.sensor_data import TASKS, list_sets, read_set, split
from paramcast.bench.sensor_shifts import Randomized
from paramcast.bench.sensors import bench_sensors
from paramcast.cli.bench.sensors import command
from paramcast.errors import InputError

REAL = Path(__file__).parents[3] / "shared" / "data" / "sensors"


def write_photos(folder: Path, users: int = 9, first: int = 0) -> None:
    """Write a set of photos: the digit is where the bright stripe lies, and users differ in brightness."""
    rng = np.random.default_rng(first)
    signals, labels, owners = [], [], []
    for user in range(first, first + users):
        for digit in range(10):
            photo = rng.integers(0, 40, (64, 64)) + 10 * (user % 5)
            photo[6 * digit : 6 * digit + 6] += 100
            signals.append(photo)
            labels.append(digit)
            owners.append(f"p{user}")
    folder.mkdir(exist_ok=True)
    np.savez(
        folder / "sign_digits.npz",
        signals=np.array(signals, np.uint8),
        scale=np.float32(1 / 255),
        labels=np.array(labels, np.int8),
        users=np.array(owners),
        classes=np.array([str(d) for d in range(10)]),
    )


def write_watches(folder: Path, users: int = 3) -> None:
    """Write recordings of a watch: 2 labels, one of which changes in the middle of a window."""
    samples = 100 * 120
    labels = np.repeat(np.arange(120) % 2, 100).astype(np.int8)
    labels[50:150] = -1
    signals = np.arange(samples * users * 3).reshape(-1, 3) % 1000
    np.savez(
        folder / "wisdm_watch.npz",
        signals=signals.astype(np.int16),
        scale=np.full(3, 0.5, np.float32),
        labels=np.tile(labels, users),
        offsets=np.arange(users + 1) * samples,
        users=np.array([f"u{u}" for u in range(users)]),
        classes=np.array(["walking", "jogging"]),
    )


def test_windows_hold_one_label_and_the_signals_real_values(tmp_path: Path) -> None:
    write_watches(tmp_path)
    known = read_set(tmp_path / "wisdm_watch.npz")
    assert [device.id for device in known.devices] == ["u0", "u1", "u2"]
    (windows,), labels = known.devices[0].inputs, known.devices[0].labels
    assert windows.shape == (118, 3, 100)  # the two windows with unlabeled samples are left out
    raw = np.load(tmp_path / "wisdm_watch.npz")["signals"] * 0.5
    starts = {raw[at, 0]: at // 100 for at in range(0, 12000, 100)}
    window = starts[float(windows[0, 0, 0])]
    np.testing.assert_allclose(windows[0].T, raw[100 * window : 100 * window + 100])
    assert int(labels[0]) == window % 2


def test_the_seed_orders_the_examples_and_nothing_else(tmp_path: Path) -> None:
    write_watches(tmp_path)
    one, two = (read_set(tmp_path / "wisdm_watch.npz", seed).devices[0].inputs[0] for seed in (0, 1))
    assert not torch.equal(one, two)
    assert torch.equal(one.flatten(1).sort(0)[0], two.flatten(1).sort(0)[0])


def test_a_user_is_in_one_part_and_in_the_same_every_time(tmp_path: Path) -> None:
    write_photos(tmp_path, users=30)
    devices = read_set(tmp_path / "sign_digits.npz").devices
    kept, held = split(devices, "sign_digits")
    assert len(kept) + len(held) == 30
    assert 5 <= len(held) <= 15
    fewer = split([d for d in devices if d.id != kept[0].id], "sign_digits")[1]
    assert [d.id for d in fewer] == [d.id for d in held]


@pytest.mark.parametrize("name", ["wisdm_watch", "myo_emg", "dsp_speech", "sign_digits", "metabolics"])
def test_a_simulated_user_has_other_signals_of_the_same_kind(name: str) -> None:
    from paramcast.training.devices import DeviceData

    shapes = {"myo_emg": (6, 16, 10), "dsp_speech": (6, 1, 60, 40), "sign_digits": (6, 1, 32, 32)}
    x = torch.randn(shapes.get(name, (6, 6, 30)), generator=torch.Generator().manual_seed(0))
    device = DeviceData("a", (x, torch.zeros(6, 2)), np.arange(6))
    made = Randomized(name)(device, np.random.default_rng(0))
    assert made.inputs[0].shape == x.shape
    assert torch.isfinite(made.inputs[0]).all()
    assert not torch.allclose(made.inputs[0], x)
    assert torch.equal(made.labels, device.labels)
    assert torch.equal(made.inputs[1], device.inputs[1])


def test_rows_of_other_users(tmp_path: Path) -> None:
    write_photos(tmp_path / "known", users=12)
    write_photos(tmp_path / "other", users=4, first=12)
    (row,) = bench_sensors(tmp_path / "known", tmp_path / "other", steps=12)
    assert row["name"] == "sign_digits"
    assert row["devices"] == 4
    assert row["metric"] == "accuracy"
    assert set(row["controls"]) == {"base", "constant", "shuffled", "own", "best_free"}
    for control in row["controls"].values():
        assert control["low"] <= control["mean"] <= control["high"]
    over = row["controls"]["own"]["mean"] - row["controls"]["best_free"]["mean"]
    assert row["own_minus_best_free"]["mean"] == pytest.approx(over, abs=1e-3)


def test_the_same_user_on_both_sides_is_refused(tmp_path: Path) -> None:
    write_photos(tmp_path, users=12)
    with pytest.raises(InputError, match="is among the users of training and of test"):
        bench_sensors(tmp_path, tmp_path, steps=2)


def test_command_writes_a_row_a_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paramcast.bench.sensors.STEPS", 6)
    write_photos(tmp_path, users=14)
    out = tmp_path / "figures.json"
    done = CliRunner().invoke(command, ["--data", str(tmp_path), "--json", str(out)])
    assert done.exit_code == 0, done.output
    assert "sign_digits" in done.output
    (row,) = json.loads(out.read_text())["rows"]
    assert row["name"] == "sign_digits"


@pytest.mark.parametrize("names", [(), ("hapt",)])
def test_a_folder_without_the_set_is_one_clear_line(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=r"no .*npz"):
        list_sets(tmp_path, names)


def test_a_file_of_another_layout_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "hapt.npz", signals=np.zeros((3, 3)))
    with pytest.raises(InputError, match=r"hapt.npz has no array 'scale'"):
        read_set(tmp_path / "hapt.npz")
    (tmp_path / "hapt.npz").write_bytes(b"no zip file")
    with pytest.raises(InputError, match=r"hapt.npz cannot be read"):
        read_set(tmp_path / "hapt.npz")


@pytest.mark.skipif(not REAL.is_dir(), reason="the real sets are not here")
def test_real_sets_become_devices() -> None:
    for name, path in list_sets(REAL, ["phone_watch", "metabolics", "utd_mhad"]).items():
        known = read_set(path)
        assert len(known.devices) >= 4
        for device in known.devices:
            assert len(device) >= TASKS[name].support + 8
