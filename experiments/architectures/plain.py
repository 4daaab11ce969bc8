"""Models that people write by themselves in plain torch."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from experiments.architectures.registry import ROWS, Built, model

LENGTHS = torch.tensor([7, 5, 3])


def plain(name: str, targets: str = "*") -> Any:
    """Register a model in plain torch."""
    return model("torch", name, targets)


class Packed(nn.Module):
    """A recurrent classifier of sequences of unlike lengths."""

    def __init__(self, kind: type[nn.RNNBase], sorted_first: bool, last: bool, **options: Any) -> None:
        super().__init__()
        self.recurrent = kind(6, 8, batch_first=True, **options)
        self.head = nn.Linear(8 * (2 if options.get("bidirectional") else 1), 3)
        self.sorted_first, self.last = sorted_first, last

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Logits (N, 3)."""
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
    """A cell in a loop of Python."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.cell, self.head = kind(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 3)."""
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
    """Wraps a module that wants time first: the examples are first outside."""

    def __init__(self, inner: nn.Module, width: int, classes: int = 3) -> None:
        super().__init__()
        self.inner, self.head = inner, nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 3)."""
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


@plain("tuple with None out, optional argument in")
def _() -> Built:
    class Optional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(5, 8), nn.Linear(8, 3)

        def forward(
            self, x: Tensor, mask: Tensor | None = None, scale: float = 2.0
        ) -> tuple[Tensor, None, Tensor]:
            y = self.body(x) * scale
            return self.head(y if mask is None else y * mask), None, y

    return Optional(), (torch.randn(ROWS, 5),)


@plain("nested lists in")
def _() -> Built:
    class Lists(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers, self.head = nn.ModuleList(nn.Linear(4, 8) for _ in range(3)), nn.Linear(8, 2)

        def forward(self, views: list[Tensor]) -> Tensor:
            return self.head(sum(layer(x) for layer, x in zip(self.layers, views, strict=True)).relu())

    return Lists(), ([torch.randn(ROWS, 4) for _ in range(3)],)


@plain("buffers as state")
def _() -> Built:
    class State(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(5, 8), nn.Linear(8, 3)
            self.register_buffer("mean", torch.randn(5))
            self.register_buffer("calls", torch.zeros((), dtype=torch.long))

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                self.calls += 1
            return self.head(torch.relu(self.body(x - self.mean)))

    return State(), torch.randn(ROWS, 5)


@plain("a buffer that forward writes")
def _() -> Built:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(5, 3)
            self.register_buffer("calls", torch.zeros((), dtype=torch.long))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return self.body(x)

    return Counts(), torch.randn(ROWS, 5)


@plain("attributes that forward writes")
def _() -> Built:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head, self.last = nn.Linear(5, 8), nn.Linear(8, 3), None

        def forward(self, x: Tensor) -> Tensor:
            self.last = self.body(x).relu()
            return self.head(self.last)

    return Keeps(), torch.randn(ROWS, 5)


@plain("tied weights, decoder is the transposed encoder")
def _() -> Built:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encode, self.bias = nn.Linear(6, 4), nn.Parameter(torch.zeros(6))

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(torch.tanh(self.encode(x)), self.encode.weight.t(), self.bias)

    return Tied(), torch.randn(ROWS, 6)


@plain("weight norm of old, spectral norm of old")
def _() -> Built:
    net = nn.Sequential(
        nn.utils.weight_norm(nn.Linear(6, 8)),
        nn.Tanh(),
        nn.utils.spectral_norm(nn.Linear(8, 8)),
        nn.Tanh(),
        nn.Linear(8, 3),
    )
    return net, torch.randn(ROWS, 6)


@plain("weight norm and spectral norm, parametrized")
def _() -> Built:
    made = nn.utils.parametrizations
    return nn.Sequential(
        made.weight_norm(nn.Conv1d(3, 6, 3)), nn.ReLU(), nn.Flatten(), made.spectral_norm(nn.Linear(36, 5))
    ), torch.randn(ROWS, 3, 8)


@plain("custom parameters in lists and dictionaries")
def _() -> Built:
    class Custom(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.steps = nn.ParameterList([nn.Parameter(torch.randn(5, 5) / 3) for _ in range(2)])
            self.named = nn.ParameterDict(
                {"gain": nn.Parameter(torch.ones(5)), "shift": nn.Parameter(torch.zeros(()))}
            )

        def forward(self, x: Tensor) -> Tensor:
            for step in self.steps:
                x = torch.einsum("ni,ij->nj", x, step).tanh()
            return x * self.named["gain"] + self.named["shift"]

    return Custom(), torch.randn(ROWS, 5)


@plain("MultiheadAttention by itself")
def _() -> Built:
    class Self(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.attention(x, x, x)

    return Self(), torch.randn(ROWS, 5, 8)


@plain("scaled dot product attention, grouped heads")
def _() -> Built:
    class Attend(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            b, t, c = x.shape
            q, k, v = self.qkv(x).view(b, t, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.out(y.transpose(1, 2).reshape(b, t, c).mean(1))

    return Attend(), torch.randn(ROWS, 5, 8)


@plain("mixture of experts, top-1 by a mask")
def _() -> Built:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.experts = nn.Linear(5, 3), nn.ModuleList(nn.Linear(5, 4) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            weights = self.gate(x).softmax(-1)
            return sum(weights[:, i : i + 1] * expert(x) for i, expert in enumerate(self.experts))

    return Experts(), torch.randn(ROWS, 5)


@plain("mixture of experts, rows by index", "experts")
def _() -> Built:
    class Routed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.experts = nn.Linear(5, 2), nn.ModuleList(nn.Linear(5, 4) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            chosen = self.gate(x).argmax(-1)
            out = x.new_zeros(len(x), 4)
            for i, expert in enumerate(self.experts):
                rows = torch.where(chosen == i)[0]
                out = out.index_add(0, rows, expert(x[rows]))
            return out

    return Routed(), torch.randn(ROWS, 5)


@plain("a branch on the data in Python")
def _() -> Built:
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(5, 3), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x) if x.mean() > 100 else self.b(x) + self.a(x)

    return Branch(), torch.randn(ROWS, 5)


@plain("STFT front end")
def _() -> Built:
    class Spectral(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("window", torch.hann_window(16))
            self.head = nn.Sequential(
                nn.Conv1d(9, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 3)
            )

        def forward(self, wave: Tensor) -> Tensor:
            spectrum = torch.stft(wave, 16, 8, window=self.window, return_complex=True).abs()
            return self.head(torch.log1p(spectrum))

    return Spectral(), torch.randn(ROWS, 128)


@plain("FFT mixer")
def _() -> Built:
    class Mixer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.norm(x + torch.fft.fft2(x, dim=(-2, -1)).real).mean(1))

    return Mixer(), torch.randn(ROWS, 6, 8)


@plain("variational autoencoder that samples in training only")
def _() -> Built:
    class Auto(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encode, self.decode = nn.Linear(6, 8), nn.Linear(4, 6)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            mean, log = self.encode(x).chunk(2, -1)
            z = mean + torch.randn_like(mean) * (0.5 * log).exp() if self.training else mean
            return {"logits": self.decode(z), "mean": mean, "log": log}

    return Auto(), torch.randn(ROWS, 6)


@plain("LSTM autoencoder of series, flipped")
def _() -> Built:
    class Auto(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encode, self.decode, self.out = (
                nn.LSTM(3, 8, batch_first=True),
                nn.LSTM(8, 8, batch_first=True),
                nn.Linear(8, 3),
            )

        def forward(self, x: Tensor) -> Tensor:
            _, (state, _) = self.encode(x)
            y, _ = self.decode(state[-1][:, None].repeat(1, x.size(1), 1))
            return self.out(y).flip(1)

    return Auto(), torch.randn(ROWS, 6, 3)


@plain("CNN and LSTM of sensors (DeepConvLSTM)")
def _() -> Built:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.Sequential(nn.Conv2d(1, 4, (5, 1)), nn.ReLU(), nn.Conv2d(4, 4, (5, 1)), nn.ReLU())
            self.lstm, self.head = nn.LSTM(4 * 6, 8, num_layers=2, batch_first=True), nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            y = self.convs(x.unsqueeze(1)).permute(0, 2, 1, 3).flatten(2)
            return self.head(self.lstm(y)[0][:, -1])

    return Deep(), torch.randn(ROWS, 24, 6)


@plain("siamese of two pictures")
def _() -> Built:
    class Siamese(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tower = nn.Sequential(
                nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 6)
            )

        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return F.cosine_similarity(self.tower(left), self.tower(right))

    return Siamese(), (torch.randn(ROWS, 1, 8, 8), torch.randn(ROWS, 1, 8, 8))


@plain("tabular, embeddings of categories beside numbers")
def _() -> Built:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tables = nn.ModuleList(nn.Embedding(n, 4) for n in (3, 5))
            self.body = nn.Sequential(
                nn.Linear(14, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 2)
            )

        def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
            words = [table(categories[:, i]) for i, table in enumerate(self.tables)]
            return self.body(torch.cat([numbers, *words], 1))

    return Table(), (torch.randn(ROWS, 6), torch.randint(3, (ROWS, 2)))


@plain("one number for an example")
def _() -> Built:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 1))

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x).squeeze(-1)

    return One(), torch.randn(ROWS, 4)


@plain("KAN-like splines, grid as a buffer")
def _() -> Built:
    class Spline(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("grid", torch.linspace(-2, 2, 6))
            self.weight = nn.Parameter(torch.randn(3, 4, 6))

        def forward(self, x: Tensor) -> Tensor:
            basis = torch.exp(-((x[..., None] - self.grid) ** 2))
            return torch.einsum("nig,oig->no", basis, self.weight)

    return Spline(), torch.randn(ROWS, 4)


@plain("hypernetwork inside: weights made of the input")
def _() -> Built:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.make = nn.Linear(4, 12)

        def forward(self, x: Tensor, given: Tensor) -> Tensor:
            return torch.bmm(self.make(given).view(-1, 3, 4), x[..., None])[..., 0]

    return Inner(), (torch.randn(ROWS, 4), torch.randn(ROWS, 4))


@plain("half precision")
def _() -> Built:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).half(), torch.randn(ROWS, 6).half()


@plain("bfloat16")
def _() -> Built:
    return nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3)).bfloat16(), torch.randn(
        ROWS, 6
    ).bfloat16()


@plain("time-first input: examples on the second axis")
def _() -> Built:
    class Sequence(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru, self.head = nn.GRU(6, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.gru(x)[0][-1])

    return Sequence(), torch.randn(ROWS, 5, 6)  # which GRU takes for (T, N, C)
