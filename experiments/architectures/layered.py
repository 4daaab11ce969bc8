"""Modules in plain torch with inputs and outputs of many forms, and parameters of many kinds."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.architectures.plain import plain
from experiments.architectures.registry import ROWS, Built


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

    return Sequence(), torch.randn(ROWS, 5, 6)  # GRU reads this as (T, N, C)
