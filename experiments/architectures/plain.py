"""Models in plain torch, as users write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from experiments.architectures.registry import ROWS, Built, model

LENGTHS = torch.tensor([7, 5, 3])


def plain(name: str, targets: str = "*") -> Callable[[Callable[[], Built]], Callable[[], Built]]:
    """Register a model in plain torch."""
    return model("torch", name, targets)


class Packed(nn.Module):
    """A recurrent classifier of sequences of different lengths."""

    def __init__(self, kind: type[nn.RNNBase], sorted_first: bool, last: bool, **options: Any) -> None:
        super().__init__()
        self.recurrent = kind(6, 8, batch_first=True, **options)
        self.head = nn.Linear(8 * (2 if options.get("bidirectional") else 1), 3)
        self.sorted_first, self.last = sorted_first, last

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Compute logits (N, 3)."""
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=self.sorted_first)
        out, state = self.recurrent(packed)
        if self.last:
            state = state[0] if isinstance(state, tuple) else state
            return self.head(state[-1])
        out, _ = pad_packed_sequence(out, batch_first=True, total_length=x.shape[1])
        return self.head(out.sum(1) / lengths[:, None])


@plain("GRU, packed, last state")
def _() -> Built:
    return Packed(nn.GRU, False, True), (torch.randn(ROWS, 7, 6), LENGTHS.clone())


@plain("LSTM, packed, two ways, mean")
def _() -> Built:
    return Packed(nn.LSTM, False, False, bidirectional=True), (torch.randn(ROWS, 7, 6), LENGTHS.clone())


@plain("RNN, packed, two layers")
def _() -> Built:
    return Packed(nn.RNN, False, True, num_layers=2, nonlinearity="relu"), (
        torch.randn(ROWS, 7, 6),
        LENGTHS.clone(),
    )


class CellLoop(nn.Module):
    """A recurrent cell in a Python loop."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.cell, self.head = kind(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits (N, 3)."""
        state: Any = torch.zeros(x.size(0), 8)
        if isinstance(self.cell, nn.LSTMCell):
            state = (state, torch.zeros(x.size(0), 8))
        for t in range(x.size(1)):
            state = self.cell(x[:, t], state)
        return self.head(state[0] if isinstance(state, tuple) else state)


@plain("GRU cell in a loop, zeros by size")
def _() -> Built:
    return CellLoop(nn.GRUCell), torch.randn(ROWS, 5, 6)


@plain("LSTM cell in a loop")
def _() -> Built:
    return CellLoop(nn.LSTMCell), torch.randn(ROWS, 5, 6)


@plain("GRU cell in a loop, no first state, outputs stacked")
def _() -> Built:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = nn.GRUCell(6, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            state, out = None, []
            for step in x.unbind(1):
                state = self.cell(step, state)
                out.append(self.head(state))
            return torch.stack(out, 1)

    return Loop(), torch.randn(ROWS, 5, 6)


@plain("GRU with a learned first state")
def _() -> Built:
    class Learned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru, self.head = nn.GRU(6, 8, batch_first=True), nn.Linear(8, 3)
            self.start = nn.Parameter(torch.randn(1, 1, 8))

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.gru(x, self.start.expand(-1, len(x), -1).contiguous())[1][0])

    return Learned(), torch.randn(ROWS, 5, 6)


@plain("GRU whose first state is zeros by batch")
def _() -> Built:
    class Zeros(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru, self.head = nn.GRU(6, 8, num_layers=2, batch_first=True), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            start = torch.zeros(2, x.shape[0], 8, device=x.device)
            return self.head(self.gru(x, start)[0][:, -1])

    return Zeros(), torch.randn(ROWS, 5, 6)


class TimeFirst(nn.Module):
    """Wraps a module that needs time first; the input has examples first."""

    def __init__(self, inner: nn.Module, width: int, classes: int = 3) -> None:
        super().__init__()
        self.inner, self.head = inner, nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits (N, 3)."""
        out = self.inner(x.transpose(0, 1))
        out = out[0] if isinstance(out, tuple) else out
        return self.head(out.mean(0))


@plain("TransformerEncoder, batch_first=False inside")
def _() -> Built:
    return TimeFirst(nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2), 8), torch.randn(
        ROWS, 5, 8
    )


@plain("LSTM, batch_first=False inside, projected")
def _() -> Built:
    return TimeFirst(nn.LSTM(8, 12, proj_size=6), 6), torch.randn(ROWS, 5, 8)


@plain("TransformerEncoder, pre-norm, padding mask")
def _() -> Built:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True, activation="gelu")
            self.encoder, self.head = (
                nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
                nn.Linear(8, 3),
            )
            self.position = nn.Parameter(torch.randn(1, 7, 8))

        def forward(self, x: Tensor, padding: Tensor) -> Tensor:
            y = self.encoder(x + self.position[:, : x.shape[1]], src_key_padding_mask=padding)
            return self.head(y.masked_fill(padding[..., None], 0).sum(1))

    return Masked(), (torch.randn(ROWS, 7, 8), torch.arange(7) >= LENGTHS[:, None])


@plain("TransformerDecoder, causal")
def _() -> Built:
    class Causal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, batch_first=True), 1)
            self.words, self.out = nn.Embedding(20, 8), nn.Linear(8, 20)

        def forward(self, memory: Tensor, tokens: Tensor) -> Tensor:
            mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
            return self.out(self.decoder(self.words(tokens), memory, tgt_mask=mask, tgt_is_causal=True))

    return Causal(), (torch.randn(ROWS, 5, 8), torch.randint(20, (ROWS, 4)))


@plain("sinusoidal positions as a buffer, class token")
def _() -> Built:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.randn(1, 1, 8))
            place = torch.arange(32)[:, None] * torch.exp(-torch.arange(0, 8, 2) / 2)
            self.register_buffer(
                "table", torch.stack([place.sin(), place.cos()], -1).flatten(1), persistent=False
            )
            self.layer, self.head = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
            return self.head(self.layer(x + self.table[: x.shape[1]])[:, 0])

    return Tokens(), torch.randn(ROWS, 5, 8)


@plain("TCN, dilated, weight norm")
def _() -> Built:
    norm = nn.utils.parametrizations.weight_norm

    class Chomp(nn.Module):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.size = size

        def forward(self, x: Tensor) -> Tensor:
            return x[:, :, : -self.size].contiguous()

    class Block(nn.Module):
        def __init__(self, channels: int, width: int, dilation: int) -> None:
            super().__init__()
            self.net = nn.Sequential(
                norm(nn.Conv1d(channels, width, 3, padding=2 * dilation, dilation=dilation)),
                Chomp(2 * dilation),
                nn.ReLU(),
                nn.Dropout(0.2),
            )
            self.down = nn.Conv1d(channels, width, 1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.net(x) + self.down(x))

    net = nn.Sequential(
        Block(4, 8, 1), Block(8, 8, 2), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 3)
    )
    return net, torch.randn(ROWS, 4, 16)


@plain("U-Net")
def _() -> Built:
    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()

            def block(i: int, o: int) -> nn.Sequential:
                return nn.Sequential(
                    nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True)
                )

            self.down1, self.down2, self.middle = block(3, 4), block(4, 8), block(8, 8)
            self.up2, self.up1 = (
                nn.ConvTranspose2d(8, 8, 2, 2),
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            )
            self.join2, self.join1, self.out = block(16, 8), block(12, 4), nn.Conv2d(4, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            a = self.down1(x)
            b = self.down2(F.max_pool2d(a, 2))
            c = self.up2(self.middle(F.max_pool2d(b, 2)))
            d = self.join2(torch.cat([b, c], 1))
            return self.out(self.join1(torch.cat([a, self.up1(d)], 1)))

    return UNet(), torch.randn(ROWS, 3, 16, 16)


@plain("GNN by adjacency matrix")
def _() -> Built:
    class Graph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.head = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, nodes: Tensor, adjacency: Tensor) -> Tensor:
            eye = torch.eye(nodes.shape[1])
            a = adjacency + eye
            degree = a.sum(-1).clamp(min=1).rsqrt()
            a = degree[..., None] * a * degree[:, None]
            x = torch.relu(a @ self.first(nodes))
            return self.head((a @ self.second(x)).mean(1))

    return Graph(), (torch.randn(ROWS, 6, 5), (torch.rand(ROWS, 6, 6) > 0.5).float())


@plain("graph attention with a mask")
def _() -> Built:
    class Attend(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.make, self.head = nn.Linear(5, 8, bias=False), nn.Linear(8, 3)
            self.left, self.right = nn.Parameter(torch.randn(8, 1)), nn.Parameter(torch.randn(8, 1))

        def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
            x = self.make(nodes)
            scores = F.leaky_relu(x @ self.left + (x @ self.right).transpose(1, 2), 0.2)
            eye = torch.eye(nodes.size(1), dtype=torch.bool)
            weights = scores.masked_fill(~(edges | eye), float("-inf")).softmax(-1)
            return self.head((weights @ x).amax(1))

    return Attend(), (torch.randn(ROWS, 6, 5), torch.rand(ROWS, 6, 6) > 0.5)


@plain("GNN by edges of one graph, scatter")
def _() -> Built:
    class Scatter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.message, self.head = nn.Linear(5, 8), nn.Linear(8, 3)

        def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
            sent = self.message(torch.gather(nodes, 1, edges[..., :1].expand(-1, -1, nodes.shape[-1])))
            summed = torch.zeros(nodes.shape[0], nodes.shape[1], 8).scatter_add(
                1, edges[..., 1:].expand(-1, -1, 8), sent
            )
            return self.head(torch.tanh(summed).mean(1))

    return Scatter(), (torch.randn(ROWS, 6, 5), torch.randint(6, (ROWS, 9, 2)))


@plain("deep sets with a mask")
def _() -> Built:
    class Sets(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.phi = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8))
            self.rho = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))

        def forward(self, items: Tensor, mask: Tensor) -> Tensor:
            weight = mask.unsqueeze(-1).float()
            return self.rho((self.phi(items) * weight).sum(1) / weight.sum(1).clamp(min=1))

    return Sets(), (torch.randn(ROWS, 7, 4), torch.arange(7) < LENGTHS[:, None])


@plain("set transformer, learned seeds")
def _() -> Built:
    class Pooling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seeds = nn.Parameter(torch.randn(1, 2, 8))
            self.attention, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(16, 3)

        def forward(self, items: Tensor, absent: Tensor) -> Tensor:
            seeds = self.seeds.repeat(items.size(0), 1, 1)
            return self.head(
                self.attention(seeds, items, items, key_padding_mask=absent, need_weights=False)[0].flatten(1)
            )

    return Pooling(), (torch.randn(ROWS, 7, 8), torch.arange(7) >= LENGTHS[:, None])


@plain("dict in, dict out")
def _() -> Built:
    class Dicts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Linear(5, 8), nn.Linear(3, 8), nn.Linear(8, 2)

        def forward(self, batch: dict[str, Tensor]) -> dict[str, Any]:
            mixed = torch.tanh(self.a(batch["acc"]) + self.b(batch["gyro"]))
            return {"logits": self.head(mixed), "extra": {"mean": mixed.mean(1), "parts": [mixed, mixed * 2]}}

    return Dicts(), ({"acc": torch.randn(ROWS, 5), "gyro": torch.randn(ROWS, 3)},)


class Pair(NamedTuple):
    """Two outputs."""

    logits: Tensor
    value: Tensor


@plain("named tuple out")
def _() -> Built:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.policy, self.value = nn.Linear(5, 8), nn.Linear(8, 3), nn.Linear(8, 1)

        def forward(self, x: Tensor) -> Pair:
            y = self.body(x).relu()
            return Pair(self.policy(y), self.value(y).squeeze(-1))

    return Two(), torch.randn(ROWS, 5)
