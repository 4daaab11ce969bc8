"""A form of package of one's own: a gain for every output of a layer, beside the forms of paramcast.

Each device is a sensor with four channels whose amplifiers drift, so that a gain for each channel is all that
a package needs to say. The fewer numbers a form has, the fewer bytes travel.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from paramcast.training.own import OwnDevice, OwnOptions, evaluate_own, fit_supervised, train_own
from torch import Tensor, nn

from paramcast.adapters.dynamic import Dynamic
from paramcast.adapters.edits import EDITS, Edit
from paramcast.adapters.edits.base import Shape, Slot, Values, scale_vector
from paramcast.hypernet.generators import GENERATORS, Generator
from paramcast.protocol import Package, make_key, seal


class GainEdit(Edit):
    """Tensors `NAME.gain` (O,): the layer's output times 1 + gain."""

    form = "gain"

    def shapes(self) -> dict[str, Shape]:
        """One vector a layer."""
        return {f"{name}.gain": (slot.fan_out,) for name, slot in self.slots.items()}

    def apply_to(self, slot: Slot, layer: nn.Module, x: Tensor, y: Tensor, values: Values) -> Tensor:
        """Scale what the base layer gives."""
        return y + scale_vector(y, values[f"{slot.name}.gain"])

    def bias_edit(self, slot: Slot, layer: nn.Module, values: Values) -> Tensor:
        """Where the bias alone may change, scale it."""
        bias: Tensor = layer.bias * values[f"{slot.name}.gain"]  # type: ignore[operator, assignment]
        return bias


class GainGenerator(Generator):
    """The gains are linear in the hidden vector, and zero before training."""

    form = "gain"

    def forward(self, h: Tensor, dynamic: Dynamic) -> dict[str, Tensor]:
        """Package tensors (B, O) from h (B, H)."""
        return self.raw(h)


EDITS["gain"], GENERATORS["gain"] = GainEdit, GainGenerator


def device(name: str, rng: np.random.Generator) -> OwnDevice:
    """Three classes of four channels, through amplifiers of the device's own."""
    labels = rng.integers(3, size=40)
    signals = np.array([[1, 2, 3, 4], [4, 3, 2, 1], [2, 4, 1, 3]])[labels] + 0.5 * rng.normal(size=(40, 4))
    seen = (signals * np.exp(0.7 * rng.normal(size=4))).astype(np.float32)
    return OwnDevice(name, (torch.from_numpy(seen),), torch.from_numpy(labels), seen)


def main() -> None:
    """The same devices, one form after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of every random draw (default: 0)")
    parser.add_argument("--steps", type=int, default=300, help="of each adaptor (default: 300)")
    asked = parser.parse_args()
    rng = np.random.default_rng(asked.seed)
    train, held, test = (
        [device(f"{kind}-{i}", rng) for i in range(n)] for kind, n in zip("abc", (60, 12, 30), strict=True)
    )
    for form in ("gain", "lowrank", "full"):
        torch.manual_seed(asked.seed)
        module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 32), nn.GELU(), nn.Linear(32, 3))
        nn.init.eye_(module[0].weight)
        options = OwnOptions(("0",), form=form, steps=asked.steps, rate=3e-3, seed=asked.seed)
        model = train_own(module, train, held, options, fit_base=fit_supervised)
        found = evaluate_own(model, test, support=8)
        tensors = {name: np.zeros(shape, np.float32) for name, shape in model.shapes.items()}
        sealed = seal(Package("c-0", model.sha256(), 1, 0, form, "int8", tensors), make_key())
        base, own = (found.values[control].mean() for control in ("base", "own"))
        gain = found.gain
        told = f"{gain.mean:+.1f} [{gain.low:+.1f}, {gain.high:+.1f}]"
        print(f"{form:8s} base {base:.1f} %, own {own:.1f} %, gain {told}, {len(sealed)} bytes down")


if __name__ == "__main__":
    main()
