"""Label a target by three sources whose data stay local: CMDA-OT over Flower, with a process for each source.

The sources hold handwritten digits (scikit-learn's), rotated by a different angle for each source. The target
has no labels. The federation is also run in one process, for comparison: both must give the same labels.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy.ndimage import rotate
from sklearn.datasets import load_digits

from paramcast.methods import CMDAOT
from paramcast.methods.cmda_ot.flower.server import serve

ANGLES = {1: 0, 2: 20, 3: -20, -1: 40}
"""Domain -> angle of its pictures in degrees. Sources have positive numbers, the target a negative number."""


def domains(seed: int, samples: int) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Make the data of each domain: pictures (n, 64) float64 and digits (n,)."""
    images, digits = load_digits(return_X_y=True)
    order, made = np.random.default_rng(seed).permutation(len(images)), {}
    for place, (domain, angle) in enumerate(ANGLES.items()):
        rows = order[place * samples : (place + 1) * samples]
        turned = [
            rotate(image.reshape(8, 8), angle, reshape=False, order=1).ravel() for image in images[rows]
        ]
        made[domain] = np.array(turned) / 16, digits[rows]
    return made


def client(domain: int, folder: Path, address: str) -> subprocess.Popen[bytes]:
    """Start a source in a separate process."""
    module = [sys.executable, "-m", "paramcast.methods.cmda_ot.flower", "client"]
    source = ["--source", str(folder / f"{domain}.npz"), "--domain", str(domain)]
    return subprocess.Popen([*module, *source, "--server", address])


def main() -> None:
    """Label the target by separate processes and by one process, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of every random draw (default: 0)")
    parser.add_argument("--samples", type=int, default=400, help="of each domain (default: 400)")
    parser.add_argument("--rounds", type=int, default=10, help="of averaging (default: 10)")
    asked = parser.parse_args()
    data = domains(asked.seed, asked.samples)
    target, truth = data.pop(-1)
    options = {"rounds": asked.rounds, "random_state": asked.seed}
    with tempfile.TemporaryDirectory() as scratch, socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
        for domain, (pictures, digits) in data.items():
            np.savez(Path(scratch) / f"{domain}.npz", X=pictures, y=digits)
        free.close()
        clients = [client(domain, Path(scratch), address) for domain in data]
        federated = serve(CMDAOT(**options), target, np.arange(10), len(data), address)
        for process in clients:
            process.wait()
    X = np.concatenate([target, *(pictures for pictures, _ in data.values())])
    y = np.concatenate([np.full(len(target), -1), *(digits for _, digits in data.values())])
    domain = np.concatenate([np.full(len(target), -1), *(np.full(asked.samples, d) for d in data)])
    alone = CMDAOT(**options).fit(X, y, domain)
    ours, theirs = alone.predict(target), federated.predict(target)
    print(f"three processes over Flower: {100 * np.mean(theirs == truth):.1f} % of the target's labels right")
    print(f"one process:                 {100 * np.mean(ours == truth):.1f} %")
    print(f"labels that are the same:    {100 * np.mean(ours == theirs):.1f} %")


if __name__ == "__main__":
    main()
