"""Modules whose inputs have another layout than training expects: they are told so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import paramcast as pc
from paramcast.errors import InputError
from paramcast.training.examples import ExampleWarning
from paramcast.training.layouts import MixedRowsWarning

# Of labels drawn by chance: a base may score a little more on some devices than on others.
pytestmark = pytest.mark.filterwarnings("ignore::paramcast.training.bases.SeenDevicesWarning")


class TimeFirst(nn.Module):
    def __init__(self, step: int) -> None:
        super().__init__()
        self.gru, self.head, self.step = nn.GRU(2, 8), nn.Linear(8, 4), step

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states = self.gru(x)[0]
        return self.head(states[:, 0] if self.step else states[-1])


def test_a_module_that_takes_time_for_the_examples_is_told() -> None:
    rng = np.random.default_rng(0)
    data = [
        pc.DeviceData(f"d-{i}", (rng.normal(size=(12, 5, 2)).astype("f4"),), rng.integers(4, size=12))
        for i in range(5)
    ]
    made = pc.adaptable(TimeFirst(0), ["head"])
    with pytest.raises(InputError, match=r"TimeFirst gives outputs \(5, 4\) for 4 examples .*transpose"):
        made.fit(data[:3], data[3:], 2)
    backwards = pc.adaptable(Backwards(), ["head"])
    with pytest.warns(MixedRowsWarning, match="output of Backwards changes by .*transpose"):
        backwards.fit(data[:3], data[3:], 2)


class Backwards(TimeFirst):
    """Each example's output depends on those behind it."""

    def __init__(self) -> None:
        super().__init__(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.flip(0)).flip(0)


class Boxes(nn.Module):
    """Takes boxes whose second corner lies behind the first one."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(20, 6), nn.Linear(6, 4)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, boxes: torch.Tensor) -> torch.Tensor:
        return self.scale * self.head(self.words(boxes[:, 1] - boxes[:, 0]))


def test_where_made_numbers_cannot_run_a_real_or_a_given_example_is_carried(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    rng = np.random.default_rng(0)
    data = []
    for i in range(5):
        first = rng.integers(10, size=12)
        boxes = np.stack([first, first + rng.integers(10, size=12)], 1)
        data.append(pc.DeviceData(f"d-{i}", (boxes,), rng.integers(4, size=12)))
    made = pc.adaptable(Boxes(), ["*"], pc.Basis(4))
    made.fit(data[:3], data[3:], 2, support=4)
    with pytest.warns(ExampleWarning, match="fails .* probe=inputs"):
        artifact = made.export(tmp_path / "artifact")
    probe = load_file(artifact / "device" / "probe.safetensors")["boxes"]
    np.testing.assert_array_equal(probe, data[0].inputs[0][:1].numpy())
    made.export(tmp_path / "artifact", probe=(np.array([[3, 5], [1, 2]]),))
    probe = load_file(artifact / "device" / "probe.safetensors")["boxes"]
    np.testing.assert_array_equal(probe, [[3, 5]])
