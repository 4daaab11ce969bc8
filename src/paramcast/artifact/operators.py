"""Replaces operations that the tracing exporter does not know by operations that it knows.

Every replacement computes what torch computes in evaluation mode. The comparison at the end of an export
would find a difference.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_SQUARINGS, _TERMS = 5, 12
"""Squarings s and terms of the series for a matrix exponential: exp(A) = (series of A / 2^s)^(2^s)."""


class PlainOperators(TorchFunctionMode):
    """Replaces unknown operations by known ones while the mode is active."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the replacement of a function if there is one, else the function."""
        replacement = _REPLACEMENTS.get(function)
        if replacement is not None:
            return replacement(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


@contextmanager
def traced_lengths() -> Iterator[None]:
    """Make `len` of a tensor return its traced first size; the tracer would fix a plain integer."""
    before = builtins.len

    def length(value: Any) -> Any:
        return value.shape[0] if isinstance(value, Tensor) and value.dim() else before(value)

    builtins.len = length
    try:
        yield
    finally:
        builtins.len = before


@contextmanager
def broadcast_masks() -> Iterator[None]:
    """Make transformers, if it is imported, build masks by broadcasting, because the tracer knows no vmap."""
    masks: Any = sys.modules.get("transformers.masking_utils")
    before = getattr(masks, "_vmap_for_bhqkv", None)
    if before is None:
        yield
        return

    def broadcast(function: Callable[..., Tensor], bh_indices: bool = True) -> Callable[..., Tensor]:
        def mask(b: Any, h: Any, q: Tensor, kv: Tensor) -> Tensor:
            with torch._C.DisableTorchFunction():  # transformers sets a mode that rewrites indexing
                if not bh_indices:
                    return function(b, h, q[:, None], kv).expand(q.shape[0], kv.shape[0])
                made = function(b[:, None, None, None], h[:, None, None], q[:, None], kv)
                return made.expand(b.shape[0], h.shape[0], q.shape[0], kv.shape[0])

        return mask

    masks._vmap_for_bhqkv = broadcast
    try:
        yield
    finally:
        masks._vmap_for_bhqkv = before


def _rms_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    axes = list(range(-len(normalized_shape), 0))
    small = torch.finfo(input.dtype).eps if eps is None else eps
    y = input * torch.rsqrt((input * input).mean(axes, keepdim=True) + small)
    return y if weight is None else y * weight


def _instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if use_input_stats or running_mean is None:
        axes = list(range(2, input.dim()))
        mean = input.mean(axes, keepdim=True)
        variance = ((input - mean) * (input - mean)).mean(axes, keepdim=True)
        y = (input - mean) * torch.rsqrt(variance + eps)
        shape = (1, -1, *[1] * (input.dim() - 2))
        y = y if weight is None else y * weight.reshape(shape)
        return y if bias is None else y + bias.reshape(shape)
    return F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)


def _bilinear(first: Tensor, second: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    products = first[..., None, :, None] * second[..., None, None, :] * weight
    y: Tensor = products.sum((-2, -1))
    return y if bias is None else y + bias


def _gates(x: Tensor, h: Tensor, wx: Tensor, wh: Tensor, bx: Tensor | None, bh: Tensor | None) -> Any:
    return F.linear(x, wx, bx), F.linear(h, wh, bh)


def _gru_cell(x: Tensor, h: Tensor, *weights: Any) -> Tensor:
    gx, gh = _gates(x, h, *_four(weights))
    rx, zx, nx = gx.chunk(3, -1)
    rh, zh, nh = gh.chunk(3, -1)
    new = torch.tanh(nx + torch.sigmoid(rx + rh) * nh)
    update = torch.sigmoid(zx + zh)
    return new + update * (h - new)


def _lstm_cell(x: Tensor, state: Any, *weights: Any) -> tuple[Tensor, Tensor]:
    h, c = state
    gx, gh = _gates(x, h, *_four(weights))
    i, f, g, o = (gx + gh).chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def _rnn_cell(activation: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def cell(x: Tensor, h: Tensor, *weights: Any) -> Tensor:
        gx, gh = _gates(x, h, *_four(weights))
        return activation(gx + gh)

    return cell


def _four(weights: tuple[Any, ...]) -> tuple[Any, Any, Any, Any]:
    """Return the weights of inputs and state, and their biases; None for absent biases."""
    wx, wh, *biases = weights
    bx, bh = biases or (None, None)
    return wx, wh, bx, bh


def _packed(recurrent: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a recurrent layer so that its states depend on its output.

    The tracer fails if only the states of a packed sequence are read. The wrapper also computes LSTMs with
    projections.
    """

    def run(x: Tensor, *rest: Any) -> Any:
        sizes = rest[0]
        if recurrent is torch.lstm and _is_projected(rest):
            return _projected_lstm(x, *rest)
        found = recurrent(x, *rest)
        if not _is_sizes(sizes):
            return found
        data, *states = found
        padded, _ = torch._pad_packed_sequence(data, sizes, False, 0.0, -1)
        nothing = padded[:1, :1, :1] * 0
        return (data, *(state + nothing for state in states))

    return run


def _is_sizes(value: Any) -> bool:
    """Check whether a value holds the batch sizes of a packed sequence; otherwise it is a state."""
    return isinstance(value, Tensor) and value.dtype == torch.int64


def _is_projected(rest: tuple[Any, ...]) -> bool:
    """Check whether hidden state and cell state of an LSTM have different sizes."""
    return (
        not isinstance(rest[0], Tensor) and len(rest[0]) == 2 and rest[0][0].shape[-1] != rest[0][1].shape[-1]
    )


def _projected_lstm(
    x: Tensor,
    state: Any,
    weights: Any,
    has_biases: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> Any:
    """Compute an LSTM with projections step by step, because no operator of ONNX has projections."""
    x = x.transpose(0, 1) if batch_first else x
    ways, each = 1 + bidirectional, 5 if has_biases else 3
    hidden, cells = [], []
    for layer in range(layers):
        outs = []
        for way in range(ways):
            place = layer * ways + way
            *gates, project = weights[place * each : (place + 1) * each]
            h, c, out = state[0][place], state[1][place], []
            steps = x.unbind(0)
            for step in reversed(steps) if way else steps:
                h, c = _lstm_cell(step, (h, c), *gates)
                h = F.linear(h, project)
                out.append(h)
            outs.append(torch.stack(out[::-1] if way else out))
            hidden.append(h)
            cells.append(c)
        x = torch.cat(outs, -1)
    return (x.transpose(0, 1) if batch_first else x), torch.stack(hidden), torch.stack(cells)


def _vdot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum()


def _matrix_exp(a: Tensor) -> Tensor:
    small = a / 2.0**_SQUARINGS
    term = torch.eye(a.shape[-1], dtype=a.dtype)
    total = term
    for n in range(1, _TERMS + 1):
        term = term @ small / n
        total = total + term
    for _ in range(_SQUARINGS):
        total = total @ total
    return total


def _triangle(of: Callable[..., Any]) -> Callable[..., Tensor]:
    def indices(row: int, col: int, offset: int = 0) -> Tensor:
        return torch.from_numpy(np.stack(of(int(row), offset, int(col))))

    return indices


def _transposed(a: Tensor) -> Tensor:
    return a.transpose(-2, -1)


_REPLACEMENTS: dict[Any, Callable[..., Any]] = {
    F.rms_norm: _rms_norm,
    torch.rms_norm: _rms_norm,
    F.instance_norm: _instance_norm,
    F.bilinear: _bilinear,
    torch.bilinear: _bilinear,
    torch.gru_cell: _gru_cell,
    torch.lstm_cell: _lstm_cell,
    torch.rnn_tanh_cell: _rnn_cell(torch.tanh),
    torch.rnn_relu_cell: _rnn_cell(torch.relu),
    **{each: _packed(each) for each in (torch.gru, torch.lstm, torch.rnn_tanh, torch.rnn_relu)},
    torch.vdot: _vdot,
    torch.triu_indices: _triangle(np.triu_indices),
    torch.tril_indices: _triangle(np.tril_indices),
    torch.matrix_exp: _matrix_exp,
    torch.linalg.matrix_exp: _matrix_exp,
    torch.Tensor.mH.__get__: _transposed,  # type: ignore[attr-defined]
}
"""Function -> its replacement."""
