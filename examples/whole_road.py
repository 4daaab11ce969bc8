"""Run the whole road: a module, training, a server process and device processes; the last two lack torch."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from sensor_classifier import fit_right, read_devices, watch_model

SERVE = [sys.executable, *"-m paramcast serve artifact --key key --port 0 --ready-file up".split()]  # noqa: SIM905
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
    asked, scratch = parser.parse_args(), Path(tempfile.mkdtemp())
    devices = read_devices(asked.seed)
    test, held = ([d for d in devices if d.group in people] for people in (("1", "2"), ("4", "8")))
    train = [d for d in devices if d not in test + held]
    model = watch_model().fit(train, held, asked.steps, base=fit_right, seed=asked.seed)
    model.export(scratch / "artifact", key=scratch / "key")
    with subprocess.Popen(SERVE, cwd=scratch, stdout=subprocess.DEVNULL) as server:
        while not (scratch / "up").exists() and server.poll() is None:
            time.sleep(0.1)
        url = json.loads((scratch / "up").read_text())["url"]
        for device in test:
            np.savez(scratch / "data.npz", x=device.inputs[0].numpy(), y=device.labels.numpy())
            subprocess.run([sys.executable, "-c", DEVICE, device.id, url], cwd=scratch, check=True)
        server.terminate()
