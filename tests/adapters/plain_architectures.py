"""Tiny models in plain torch, with random weights: name -> build() -> (module, inputs, target patterns).

`inputs` are the inputs of one device: a tensor, a tuple (positional) or a dictionary (keywords). Packages are
imported when a model is built; `is_missing` names a package that a model needs and that is not installed.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils import _pytree as pytree

Built = tuple[nn.Module, Any, list[str]]
ARCHITECTURES: dict[str, Callable[[], Built]] = {}
NEEDS: dict[str, str] = {}
ROWS = 2


def is_missing(name: str) -> str | None:
    """Return the package that a model needs and that is not installed; None if nothing is missing."""
    package = NEEDS.get(name)
    folder = Path(sys.prefix) / "clip"
    here = package is None or importlib.util.find_spec(package) or (folder / package).is_dir()
    return None if here else package


def architecture(name: str, needs: str | None = None) -> Callable[[Callable[[], Built]], Callable[[], Built]]:
    def add(build: Callable[[], Built]) -> Callable[[], Built]:
        def seeded() -> Built:
            torch.manual_seed(0)
            module, inputs, targets = build()
            return module.eval(), inputs, targets

        ARCHITECTURES[name] = seeded
        if needs:
            NEEDS[name] = needs
        return build

    return add


def another(inputs: Any, seed: int) -> Any:
    """Make inputs of the same shapes for another device: other floats, and integers in another order."""
    draws = torch.Generator().manual_seed(seed)

    def changed(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or leaf.dtype == torch.bool:
            return leaf
        if leaf.is_floating_point():
            return torch.randn(leaf.shape, generator=draws).to(leaf.dtype)
        order = torch.randperm(leaf.numel(), generator=draws)
        return leaf.flatten()[order].reshape(leaf.shape)

    return pytree.tree_map(changed, inputs)


# ---- plain torch -----------------------------------------------------------------------------------------


@architecture("mlp of sensors")
def _mlp() -> Built:
    net = nn.Sequential(nn.Linear(9, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 4))
    return net, torch.randn(5, 9), ["*"]


@architecture("cnn of sensors, time last")
def _cnn1d() -> Built:
    net = nn.Sequential(
        nn.Conv1d(6, 8, 5, padding=2, bias=False),
        nn.BatchNorm1d(8),
        nn.GELU(),
        nn.Conv1d(8, 8, 3, groups=4),
        nn.GroupNorm(2, 8),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
    return net, torch.randn(4, 6, 20), ["*"]


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], **options: Any) -> None:
        super().__init__()
        self.recurrent = kind(6, 8, **options)
        self.head = nn.Linear(8 * (2 if options.get("bidirectional") else 1), 3)
        self.time = 1 if options.get("batch_first") else 0

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.recurrent(x)[0].mean(self.time))


@architecture("GRU, batch first")
def _gru() -> Built:
    return Recurrent(nn.GRU, batch_first=True), torch.randn(4, 7, 6), ["*"]


@architecture("LSTM, time first, two ways")
def _lstm() -> Built:
    return Recurrent(nn.LSTM, bidirectional=True, num_layers=2), torch.randn(6, 3, 6), ["*"]


@architecture("GRU cell in a loop")
def _cell() -> Built:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = nn.GRUCell(6, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            state = x.new_zeros(len(x), 8)
            for step in x.unbind(1):
                state = self.cell(step, state)
            return self.head(state)

    return Loop(), torch.randn(4, 5, 6), ["*"]


@architecture("GRU of packed sequences, last state")
def _packed() -> Built:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru, self.head = nn.GRU(6, 8, batch_first=True), nn.Linear(8, 3)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            return self.head(self.gru(packed)[1][-1])

    return Packed(), (torch.randn(3, 5, 6), torch.tensor([3, 5, 4])), ["*"]


@architecture("LSTM with projections, a first state that is learned")
def _projected() -> Built:
    class Learned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(6, 8, num_layers=2, proj_size=4, bidirectional=True)
            self.hidden, self.cells = (nn.Parameter(torch.randn(4, 1, n)) for n in (4, 8))

        def forward(self, x: Tensor) -> Tensor:
            state = [each.expand(-1, len(x), -1).contiguous() for each in (self.hidden, self.cells)]
            return self.lstm(x.transpose(0, 1), tuple(state))[0].mean(0)

    return Learned(), torch.randn(3, 5, 6), ["*"]


@architecture("TransformerEncoder, batch first")
def _encoder() -> Built:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return nn.TransformerEncoder(layer, 2), torch.randn(3, 6, 8), ["*"]


@architecture("TransformerEncoder, time first")
def _encoder_time() -> Built:
    layer = nn.TransformerEncoderLayer(8, 2, 16)
    return nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), torch.randn(6, 3, 8), ["*"]


@architecture("Transformer, encoder and decoder")
def _transformer() -> Built:
    net = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)
    return net, (torch.randn(3, 6, 8), torch.randn(3, 4, 8)), ["*"]


class Attending(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, **options)

    def forward(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        return self.attention(query, key, key, average_attn_weights=False)


@architecture("MultiheadAttention, packed")
def _attention() -> Built:
    return Attending(batch_first=True), (torch.randn(3, 4, 8), torch.randn(3, 5, 8)), ["*"]


@architecture("MultiheadAttention, time first, other keys")
def _attention_unpacked() -> Built:
    inputs = (torch.randn(6, 3, 8), torch.randn(3, 3, 6))
    return Attending(kdim=6, vdim=6, add_bias_kv=True), inputs, ["*"]


@architecture("ConvTranspose, InstanceNorm, PReLU")
def _transposed() -> Built:
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1, padding_mode="reflect"),
        nn.InstanceNorm2d(6, affine=True, track_running_stats=True),
        nn.PReLU(6),
        nn.ConvTranspose2d(6, 4, 4, stride=2, padding=1),
    )
    with torch.no_grad():
        net[1].running_mean.normal_()
    return net, torch.randn(2, 3, 8, 8), ["*"]


@architecture("Conv3d of clips")
def _conv3d() -> Built:
    net = nn.Sequential(
        nn.Conv3d(3, 4, (3, 2, 2)), nn.BatchNorm3d(4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)
    )
    clip = torch.randn(2, 3, 4, 5, 5)
    net.eval()(clip)
    return net, clip, ["*"]


@architecture("weight norm, spectral norm, orthogonal")
def _parametrized() -> Built:
    made = nn.utils.parametrizations
    net = nn.Sequential(
        made.weight_norm(nn.Linear(6, 8)),
        nn.Tanh(),
        made.spectral_norm(nn.Linear(8, 8)),
        nn.Tanh(),
        made.orthogonal(nn.Linear(8, 8)),
        nn.Linear(8, 3),
    )
    return net, torch.randn(4, 6), ["*"]


@architecture("tied embeddings of a language model")
def _tied() -> Built:
    class Language(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.mix = nn.Embedding(20, 8), nn.GRU(8, 8, batch_first=True)
            self.out = nn.Linear(8, 20, bias=False)
            self.out.weight = self.words.weight

        def forward(self, tokens: Tensor) -> Tensor:
            return self.out(self.mix(self.words(tokens))[0])

    return Language(), torch.randint(20, (3, 6)), ["*"]


@architecture("one layer used twice")
def _shared() -> Built:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 6)
            self.again = self.layer

        def forward(self, x: Tensor) -> Tensor:
            return self.again(self.layer(x).tanh())

    return Twice(), torch.randn(4, 6), ["again"]


@architecture("causal convolutions (WaveNet)")
def _causal() -> Built:
    class Causal(nn.Conv1d):
        def forward(self, x: Tensor) -> Tensor:
            padding = (self.kernel_size[0] - 1) * self.dilation[0]
            return super().forward(F.pad(x, (padding, 0)))

    net = nn.Sequential(Causal(2, 6, 2), nn.Tanh(), Causal(6, 6, 2, dilation=2), nn.Tanh(), Causal(6, 3, 2))
    return net, torch.randn(3, 2, 9), ["*"]


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@architecture("LayerNorm2d where the width is the number of channels")
def _layer_norm() -> Built:
    return nn.Sequential(nn.Conv2d(3, 6, 1), LayerNorm2d(6)), torch.randn(2, 3, 6, 6), ["*"]


@architecture("weights that are read and not called")
def _read() -> Built:
    class Read(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 3)
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            y = F.linear(x, self.first.weight, self.first.bias).relu()
            return self.scale * self.second.forward(y)

    return Read(), torch.randn(4, 6), ["*"]


@architecture("two modalities, one dictionary")
def _modalities() -> Built:
    class Fused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image = nn.Sequential(
                nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 8)
            )
            self.sound = nn.Sequential(nn.Conv1d(1, 4, 5, stride=2), nn.ReLU(), nn.AdaptiveAvgPool1d(2))
            self.head = nn.Bilinear(8, 8, 3)

        def forward(self, *, image: Tensor, sound: Tensor) -> dict[str, Tensor]:
            seen, heard = self.image(image), self.sound(sound).flatten(1)
            return {"logits": self.head(seen, heard), "seen": seen}

    return Fused(), {"image": torch.randn(2, 3, 8, 8), "sound": torch.randn(2, 1, 21)}, ["*"]


@architecture("bag of words, RMSNorm and a gate")
def _bag() -> Built:
    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.norm = nn.EmbeddingBag(15, 8), nn.RMSNorm(8)
            self.gated = nn.Linear(8, 6)

        def forward(self, tokens: Tensor) -> Tensor:
            return F.glu(self.gated(self.norm(self.words(tokens))))

    return Bag(), torch.randint(15, (4, 5)), ["*"]
