"""Make a LoRA adapter in one forward pass, write it in PEFT's format, and load it with PEFT.

The cloud makes a low-rank update for a device from eight examples without labels. For PEFT it is an adapter
like any other: it can be merged, stacked, or shared. The user's module is not changed.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, PeftModel
from safetensors.numpy import save_file
from torch import nn

import paramcast as pc

LAYERS, RANK = ("0", "2"), 2


def device(name: str, rng: np.random.Generator) -> pc.DeviceData:
    """Make a device: four classes at four corners, rotated and shifted by the device's sensor."""
    labels, angle = rng.integers(4, size=40), rng.normal() * 0.6
    corners = 2 * np.stack([labels // 2, labels % 2], 1) - 1
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    seen = (corners @ turn + rng.normal(size=2) + 0.2 * rng.normal(size=(40, 2))).astype(np.float32)
    return pc.DeviceData(name, (seen,), labels)


def write_adapter(update: Mapping[str, np.ndarray], folder: Path) -> None:
    """Write a low-rank update in PEFT's format: a b is lora_B lora_A, and a bias is the bias of lora_B."""
    tensors = {}
    for layer in LAYERS:
        place = f"base_model.model.{layer}"
        tensors[f"{place}.lora_A.weight"] = update[f"{layer}.weight.b"]
        tensors[f"{place}.lora_B.weight"] = update[f"{layer}.weight.a"]
        tensors[f"{place}.lora_B.bias"] = update[f"{layer}.bias"]
    # PEFT multiplies the product by alpha / r, which is 1 here.
    LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(LAYERS), lora_bias=True).save_pretrained(folder)
    save_file(tensors, folder / "adapter_model.safetensors")


def main() -> None:
    """Compare the outputs of paramcast and PEFT for one device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of every random draw (default: 0)")
    parser.add_argument("--steps", type=int, default=200, help="of the hypernetwork (default: 200)")
    parser.add_argument("--out", type=Path, help="folder for the adapter (default: one that is not kept)")
    asked = parser.parse_args()
    rng = np.random.default_rng(asked.seed)
    groups = (("train", 40), ("validation", 8), ("test", 1))
    train, held, (seen,) = ([device(f"{name}-{i}", rng) for i in range(n)] for name, n in groups)
    torch.manual_seed(asked.seed)
    module = nn.Sequential(nn.Linear(2, 32), nn.GELU(), nn.Linear(32, 4))
    model = pc.adaptable(module, LAYERS, pc.LowRank(RANK))
    model.fit(train, held, asked.steps, base=True, rate=3e-3, seed=asked.seed)
    update = model.update((seen.inputs[0][:8],))
    with tempfile.TemporaryDirectory() as scratch, torch.no_grad():
        folder = asked.out or Path(scratch)
        write_adapter(update, folder)
        loaded = PeftModel.from_pretrained(deepcopy(module), folder).eval()
        ours, base = model(seen.inputs, update), model(seen.inputs)
        theirs = loaded(*seen.inputs)
        for name, outputs in (("base", base), ("paramcast", ours), ("PEFT", theirs)):
            right = (outputs.argmax(-1) == seen.labels).float().mean()
            print(f"{name:10s} {100 * right:.1f} % right")
        print(f"largest difference of the logits: {float((ours - theirs).abs().max()):.1e}")
        print(f"{sum(path.stat().st_size for path in folder.iterdir()):,} bytes in {folder.name}")


if __name__ == "__main__":
    main()
