"""Write your own adapter: a gain for every output of a layer, beside the adapters of paramcast.

Each device is a sensor with four channels whose amplifiers drift, so an update needs only a gain for each
channel. The fewer numbers an adapter has, the fewer bytes an update has.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

import paramcast as pc
from paramcast.adapters import Configuration
from paramcast.adapters.base import ParameterAdapter, Shape
from paramcast.adapters.configs import CONFIGS
from paramcast.adapters.targets import Selection
from paramcast.hypernet.generators import GENERATORS
from paramcast.hypernet.generators.basis import PlainGenerator
from paramcast.protocol.changes import KINDS


def layer_of(target: str) -> str:
    """Return the name of a parameter's layer."""
    return target.rpartition(".")[0]


def gain(target: str, base: Any, values: Mapping[str, Any], constants: Mapping[str, Any]) -> Any:
    """Define the update: multiply the rows of a weight, and the bias, by 1 + gain; for NumPy and torch."""
    factor = 1 + values[f"{layer_of(target)}.gain"]
    return base * factor.reshape(-1, *[1] * (len(base.shape) - 1))


class GainAdapter(ParameterAdapter):
    """Adapter with tensors `LAYER.gain` (O,), each for a layer's weight and bias together."""

    name = kind = "gain"

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shape of the vector of each layer."""
        return {f"{layer_of(name)}.gain": (target.shape[0],) for name, target in self.targets.items()}

    def _spread(self) -> dict[str, float]:
        return dict.fromkeys(self.shapes, 0.1)  # size of the random values that check a module


@dataclass(frozen=True)
class Gain(Configuration):
    """Configuration that the user writes: `adapter=Gain()`."""

    def make(self, selection: Selection) -> GainAdapter:
        """Make the adapter for the selected parameters."""
        return GainAdapter(selection)


KINDS["gain"], CONFIGS["gain"], GENERATORS["gain"] = gain, Gain, PlainGenerator


def device(name: str, rng: np.random.Generator) -> pc.DeviceData:
    """Make a device: three classes of signals with four channels, amplified by the gains of the device."""
    labels = rng.integers(3, size=40)
    signals = np.array([[1, 2, 3, 4], [4, 3, 2, 1], [2, 4, 1, 3]])[labels] + 0.5 * rng.normal(size=(40, 4))
    seen = (signals * np.exp(0.7 * rng.normal(size=4))).astype(np.float32)
    return pc.DeviceData(name, (seen,), labels)


def main() -> None:
    """Train and evaluate several adapters, one after the other, on the same devices."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of every random draw (default: 0)")
    parser.add_argument("--steps", type=int, default=300, help="of each hypernetwork (default: 300)")
    asked = parser.parse_args()
    rng = np.random.default_rng(asked.seed)
    train, held, test = (
        [device(f"{kind}-{i}", rng) for i in range(n)] for kind, n in zip("abc", (60, 12, 30), strict=True)
    )
    for adapter in (Gain(), pc.LowRank(), pc.Full()):
        torch.manual_seed(asked.seed)
        module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 32), nn.GELU(), nn.Linear(32, 3))
        nn.init.eye_(module[0].weight)
        model = pc.adaptable(module, ["0"], adapter)
        model.fit(train, held, asked.steps, base=True, rate=3e-3, seed=asked.seed)
        (row,) = model.evaluate(test, support=8).rows
        base, own = (row["controls"][control]["mean"] for control in ("base", "own"))
        gain, down = row["gain"], row["cost"]["bytes_down"]
        told = f"{gain['mean']:+.1f} [{gain['low']:+.1f}, {gain['high']:+.1f}]"
        name = model.adapted.adapter.name
        print(f"{name:8s} base {base:.1f} %, own {own:.1f} %, gain {told}, {down} bytes down")


if __name__ == "__main__":
    main()
