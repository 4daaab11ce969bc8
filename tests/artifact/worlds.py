"""Small modules with their artifacts, and the updates that a server would send."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from paramcast.adapters import AdaptedModule, Basis, Full, LowRank, NormStatistics, Residual, build_adapter
from paramcast.artifact.write import export_device, export_hypernetwork
from paramcast.hypernet.context import ContextInputs
from paramcast.protocol import AdaptRequest, Package, SigningKey, make_key, public_key_hex, seal
from paramcast.training.uplink import Uplink

UPLINK = 4
FOREVER = 2**40


class ConvNet(nn.Module):
    """Pictures (N, 3, 8, 8) -> logits (N, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 5)
        self.norm.running_mean = torch.randn(8)
        self.norm.running_var = torch.rand(8) + 0.5

    def forward(self, image: Tensor) -> Tensor:
        return self.head(torch.relu(self.norm(self.conv(image))).mean((2, 3)))


class Recurrent(nn.Module):
    """Signals (N, T, 4) -> logits (N, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(4, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, signal: Tensor) -> Tensor:
        return self.head(self.gru(signal)[0][:, -1])


class TwoModalities(nn.Module):
    """Module with keyword inputs and a dictionary of outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.sound = nn.Linear(6, 8), nn.Conv1d(2, 8, 3)
        self.head = nn.Linear(8, 4)

    def forward(self, *, image: Tensor, sound: Tensor) -> dict[str, Any]:
        both = torch.tanh(self.image(image) + self.sound(sound).mean(-1))
        return {"logits": self.head(both), "parts": (both, both.argmax(-1))}


class Describe(nn.Module):
    """Describes the first input by its mean, variance and extremes."""

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        x = next(iter((*inputs, *named.values()))).float().flatten(1)
        mean = x.mean(1, keepdim=True)
        return torch.cat(
            [mean, (x - mean).square().mean(1, keepdim=True), x.amax(1, True), x.amin(1, True)], 1
        )


class Generates(nn.Module):
    """A small hypernetwork from the normalized mean of the anchors to the tensors of an update."""

    def __init__(self, shapes: dict[str, tuple[int, ...]], dim: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(dim, affine=False)
        self.norm.running_mean = torch.randn(dim)
        self.heads = nn.ModuleList(nn.Linear(dim, int(np.prod(s))) for s in shapes.values())
        self.shapes = shapes

    def gated(self, inputs: ContextInputs) -> dict[str, Tensor]:
        weight = inputs.anchor_mask[..., None] / inputs.anchor_mask.sum(-1)[:, None, None]
        context = self.norm((inputs.anchors * weight).sum(1))
        named = zip(self.shapes.items(), self.heads, strict=True)
        return {name: head(context).reshape(-1, *shape) for (name, shape), head in named}


def make_bert() -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return BertForSequenceClassification(BertConfig(vocab_size=50, max_position_embeddings=32, **sizes))


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any], Sequence[str], Any]] = {
    "conv": (ConvNet, lambda: torch.randn(4, 3, 8, 8), ["*"], Basis(8)),
    "statistics": (
        ConvNet,
        lambda: torch.randn(4, 3, 8, 8),
        ["norm", "head"],
        (LowRank(2), NormStatistics()),
    ),
    "gru": (Recurrent, lambda: (torch.randn(4, 7, 4),), ["gru", "head"], Residual()),
    "two": (
        TwoModalities,
        lambda: {"image": torch.randn(4, 6), "sound": torch.randn(4, 2, 9)},
        ["*"],
        Full(),
    ),
    "bert": (
        make_bert,
        lambda: {
            "input_ids": torch.randint(0, 50, (4, 7)),
            "attention_mask": torch.ones(4, 7, dtype=torch.long),
        },
        ["bert.encoder.*.attention", "classifier"],
        Basis(8),
    ),
}


@dataclass(eq=False)
class World:
    """A module, its artifact, and the key of its server."""

    adapted: AdaptedModule
    inputs: Any
    out: Path
    model: str
    key: SigningKey
    sequences: dict[str, int] = field(default_factory=dict)

    @property
    def public_key(self) -> str:
        return public_key_hex(self.key)

    def values(self, seed: int = 0, size: float = 1.0) -> dict[str, np.ndarray]:
        drawn = self.adapted.adapter.probe_values(seed, size)
        return {name: np.ascontiguousarray(value.numpy()) for name, value in drawn.items()}

    def update(
        self, device: str = "cam-1", values: Mapping[str, np.ndarray] | None = None, **changes: Any
    ) -> bytes:
        """Make a sealed update with the next sequence number, which seeds the tensors if `values` is None."""
        self.sequences[device] = self.sequences.get(device, 0) + 1
        sequence = changes.get("sequence", self.sequences[device])
        fields = {"sequence": sequence, "model": self.model, "expires": FOREVER} | changes
        tensors = self.values(sequence) if values is None else values
        package = Package(
            device=device, form=self.adapted.adapter.name, quantization="fp32", tensors=tensors, **fields
        )
        return seal(package, self.key)

    def adapt(self, data: bytes) -> bytes:
        """Answer a request like a server, with random parameters."""
        return self.update(AdaptRequest.decode(data).device)

    def truth(self, inputs: Any, values: Mapping[str, np.ndarray] | None = None) -> Any:
        """Compute the reference outputs: the module under an update."""
        given = (
            None if values is None else {name: torch.from_numpy(np.array(v)) for name, v in values.items()}
        )
        with torch.no_grad():
            return self.adapted(inputs, given)


def make_world(out: Path, case: str = "conv", **options: Any) -> World:
    torch.manual_seed(0)
    build, draw, targets, adapter = CASES[case]
    module, inputs = build().eval(), draw()
    adapted = AdaptedModule(module, build_adapter(adapter, module, targets))
    rng = np.random.default_rng(0)
    uplink = Uplink(rng.normal(size=4).astype("f4"), rng.normal(size=(4, UPLINK)).astype("f4"))
    model = export_device(adapted, Describe(), uplink, inputs, out, task=case, **options)
    return World(adapted, inputs, out, model, make_key())


def add_server(world: World) -> None:
    """Write the server's part of the artifact, with an untrained hypernetwork, so that updates differ."""
    torch.manual_seed(1)
    adapter = world.adapted.adapter
    network = Generates(dict(adapter.shapes), UPLINK).eval()
    export_hypernetwork(
        network,
        world.out,
        model=world.model,
        adapter=adapter.name,
        shapes=adapter.shapes,
        uplink_dims=(UPLINK, 1),
    )


def arrays(inputs: Any) -> Any:
    if isinstance(inputs, Tensor):
        return inputs.numpy()
    if isinstance(inputs, Mapping):
        return {name: value.numpy() for name, value in inputs.items()}
    return tuple(value.numpy() for value in inputs)
