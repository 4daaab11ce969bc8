"""From a torch module to a device process without torch that asks a server process without torch over HTTP.

    python examples/whole_road.py

Watch recordings of seglearn; the base learns right wrists, test watches sit on left wrists of other people.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from sensor_classifier import WatchModel, read_devices
from torch import nn

import paramcast as pc
from paramcast.training.bases import Supervised
from paramcast.training.scores import cross_entropy

DEVICE = """
import sys, numpy as np, paramcast as pc
device, data = pc.Device(sys.argv[1], id=sys.argv[2], server=sys.argv[3]), np.load(sys.argv[4])
base = device.predict(data["x"][8:]).argmax(-1) == data["y"][8:]
device.observe(data["x"][:8])
device.adapt()
own = device.predict(data["x"][8:]).argmax(-1) == data["y"][8:]
print(f"{sys.argv[2]}: base {100 * base.mean():.0f} %, adapted {100 * own.mean():.0f} %")
assert "torch" not in sys.modules
"""

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of everything (default: 0)")
    parser.add_argument("--steps", type=int, default=400, help="of each hypernetwork (default: 400)")
    asked = parser.parse_args()
    devices, test = read_devices(asked.seed), {"1", "2"}
    train, held = (
        [d for d in devices if (int(d.group) % 4 == 0) == last and d.group not in test]
        for last in (False, True)
    )
    torch.manual_seed(asked.seed)
    model = pc.adaptable(WatchModel(), ["mount", "first", "head"])
    right = Supervised(cross_entropy)

    def fit_base(net: nn.Module, some: Sequence[pc.DeviceData]) -> None:
        """Train on right wrists alone."""
        right(net, [device for device in some if device.id.startswith("right")])

    model.fit(train, held, asked.steps, base=fit_base, seed=asked.seed)
    with tempfile.TemporaryDirectory() as scratch:
        artifact = model.export(Path(scratch) / "artifact", key=Path(scratch) / "signing.key")
        with pc.Server(artifact, key=Path(scratch) / "signing.key").running() as url:
            for device in [d for d in devices if d.group in test]:
                np.savez(Path(scratch) / "data.npz", x=device.inputs[0].numpy(), y=device.labels.numpy())
                told = [str(artifact), device.id, url, str(Path(scratch) / "data.npz")]
                subprocess.run([sys.executable, "-c", DEVICE, *told], check=True)
