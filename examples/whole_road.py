"""Train and export a module, then run a server process and device processes; the latter two lack torch."""

import argparse
import subprocess
import sys
from tempfile import TemporaryDirectory

import numpy as np
from sensor_classifier import fit_right, read_devices, watch_model

SERVE = [sys.executable, *"-m paramcast serve artifact --key key --port 0".split()]  # noqa: SIM905
DEVICE = """
import sys, numpy as np, paramcast as pc
device, data = pc.Device("artifact", id=sys.argv[1], server=sys.argv[2]), np.load("data.npz")
before = device.predict(data["x"][8:]).argmax(-1) == data["y"][8:]
device.observe(data["x"][:8])
device.adapt()
after = device.predict(data["x"][8:]).argmax(-1) == data["y"][8:]
print(f"{sys.argv[1]}: base {before.mean():.0%}, adapted {after.mean():.0%}, torch: {'torch' in sys.modules}")
"""
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400, help="of each hypernetwork (default: 400)")
    parser.add_argument("--seed", type=int, default=0, help="of everything (default: 0)")
    asked = parser.parse_args()
    devices = read_devices(asked.seed)
    test, held = ([d for d in devices if d.group in people] for people in (("1", "2"), ("4", "8")))
    train = [d for d in devices if d not in test + held]
    model = watch_model().fit(train, held, asked.steps, base=fit_right, seed=asked.seed)
    with TemporaryDirectory() as folder:
        model.export(f"{folder}/artifact", key=f"{folder}/key")
        with subprocess.Popen(SERVE, cwd=folder, stdout=subprocess.PIPE, text=True) as server:
            url = server.stdout.readline().partition(" at ")[2].split()[0]
            for device in test:
                np.savez(f"{folder}/data.npz", x=device.inputs[0].numpy(), y=device.labels.numpy())
                subprocess.run([sys.executable, "-c", DEVICE, device.id, url], cwd=folder, check=True)
            server.terminate()
