"""One of two processes that train a module: `python module_run.py RANK FOLDER`; it prints its model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from corners import Corners, corners
from torch import distributed as dist

import paramcast as pc
from paramcast.training.bases import Supervised
from paramcast.training.scores import cross_entropy


def train(folder: Path) -> pc.AdaptableModel:
    """Train the corners on one thread, with checkpoints in `folder`."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    base = Supervised(cross_entropy, steps=60, rate=0.02)
    made = pc.adaptable(Corners(), ["first"], adapter=pc.Basis(rank=16))
    return made.fit(
        corners(24, 1), corners(8, 2), 100, base=base, rate=3e-3, folds=2, start=False, folder=folder
    )


def told(model: pc.AdaptableModel) -> dict[str, object]:
    """Return the values that must be the same in every process."""
    gate = model.hypernet.gate
    update = model.update(corners(1, 3)[0].inputs)
    return {
        "base": {name: value.ravel().tolist() for name, value in model.net.state_dict().items()},
        "fingerprint": model.fingerprint(),
        "gate": [*gate.weight.tolist(), float(gate.bias)],
        "update": {name: value.ravel().tolist() for name, value in update.items()},
        "summary": model.fitted.summary,
    }


if __name__ == "__main__":
    rank, place = int(sys.argv[1]), Path(sys.argv[2])
    dist.init_process_group("gloo", init_method=f"file://{place}/meeting", rank=rank, world_size=2)
    print(json.dumps(told(train(place / "work"))))
    dist.destroy_process_group()
