"""What a form of edit has to say: which tensors travel, their base values, and how a layer uses them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

Shape = tuple[int, ...]
Values = Mapping[str, Tensor]


@dataclass(frozen=True)
class Slot:
    """One dynamic layer: its name in the module, its kind, and the shapes of its own parameters.

    Attributes:
        name: Dotted path in the module.
        kind: 'linear', 'layernorm' or 'conv2d'.
        weight: Shape of the layer's weight.
        bias: Shape of the layer's bias, None where it has none.
    """

    name: str
    kind: str
    weight: Shape
    bias: Shape | None

    @property
    def fan_out(self) -> int:
        """Rows of the weight seen as a matrix: output features or channels."""
        return self.weight[0]

    @property
    def fan_in(self) -> int:
        """Columns of the weight seen as a matrix: input features, or channels x kernel size."""
        return prod(self.weight[1:])


class Edit(nn.Module, ABC):
    """Parameters for a set of slots, in one form.

    Values carry a leading device axis: a tensor of package shape `s` is fed as (B, *s). Inputs of the layers
    are device-major: their first axis is a multiple of B, and the rows of a device lie together.
    """

    form: ClassVar[str]

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.slots = {name: slot_of(name, layer) for name, layer in layers.items()}

    @abstractmethod
    def shapes(self) -> dict[str, Shape]:
        """Package tensors and their shapes, without the device axis."""

    def base_values(self, layers: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        """Values that leave every layer as it is; zeros unless a form says otherwise."""
        return {name: torch.zeros(shape) for name, shape in self.shapes().items()}

    @abstractmethod
    def apply_to(self, slot: Slot, layer: nn.Module, x: Tensor, y: Tensor, values: Values) -> Tensor:
        """The layer's output under `values`, given its input `x` and its unedited output `y`."""


def slot_of(name: str, layer: nn.Module) -> Slot:
    """Describe a layer that can be made dynamic.

    Raises:
        TypeError: The layer is not a Linear, LayerNorm or Conv2d with a weight.
    """
    kinds = {nn.Linear: "linear", nn.LayerNorm: "layernorm", nn.Conv2d: "conv2d"}
    kind = next((kind for cls, kind in kinds.items() if isinstance(layer, cls)), None)
    weight = getattr(layer, "weight", None)
    # The output layer of nn.MultiheadAttention is never called, only its weight is read: a hook is not run.
    uncalled = isinstance(layer, NonDynamicallyQuantizableLinear)
    if kind is None or weight is None or uncalled:
        raise TypeError(f"{name} is a {type(layer).__name__}; dynamic layers are Linear, LayerNorm or Conv2d")
    bias = getattr(layer, "bias", None)
    return Slot(name, kind, tuple(weight.shape), None if bias is None else tuple(bias.shape))


def by_device(x: Tensor, devices: int) -> Tensor:
    """(B·n, ...) -> (B, n, ...)."""
    return x.reshape(devices, x.shape[0] // devices, *x.shape[1:])


def matmul(x: Tensor, matrix: Tensor) -> Tensor:
    """X (B·n, ..., I) times matrix (B, I, O), each device's rows with its own matrix -> (B·n, ..., O).

    One batched product (`bmm`): measured 2-6 times as fast as vmap or a loop over devices.
    """
    rows = x.reshape(matrix.shape[0], -1, x.shape[-1])
    return torch.bmm(rows, matrix).reshape(*x.shape[:-1], matrix.shape[-1])


def add_vector(y: Tensor, vector: Tensor, axis: int = -1) -> Tensor:
    """Add vector (B, *v) to y (B·n, ...), the device's own to its rows; `v` ends at `axis` of y."""
    return _aligned(y, vector, axis, torch.add)


def scale_vector(y: Tensor, vector: Tensor, axis: int = -1) -> Tensor:
    """Multiply y (B·n, ...) by vector (B, *v), the device's own for its rows; `v` ends at `axis` of y."""
    return _aligned(y, vector, axis, torch.mul)


def _aligned(y: Tensor, vector: Tensor, axis: int, operation: object) -> Tensor:
    grouped = by_device(y, vector.shape[0])
    tail = -1 - axis
    middle = grouped.dim() - 1 - (vector.dim() - 1) - tail
    shaped = vector.reshape(vector.shape[0], *([1] * middle), *vector.shape[1:], *([1] * tail))
    return operation(grouped, shaped).reshape(y.shape)  # type: ignore[operator, no-any-return]


def dense(slot: Slot, layer: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The layer with a whole weight (B, *slot.weight) and bias (B, *slot.bias) for each device."""
    if isinstance(layer, nn.Linear):
        y = matmul(x, weight.transpose(1, 2))
        return y if bias is None else add_vector(y, bias)
    if isinstance(layer, nn.LayerNorm):
        y = scale_vector(F.layer_norm(x, layer.normalized_shape, eps=layer.eps), weight)
        return y if bias is None else add_vector(y, bias)
    y = convolve(layer, x, weight)
    return y if bias is None else add_vector(y, bias, axis=-3)


def convolve(layer: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
    """Conv2d of x (B·n, C, H, W) with a kernel for each device, weight (B, O, C / groups, kh, kw), no bias.

    The devices become groups of one grouped convolution.
    """
    assert isinstance(layer, nn.Conv2d)
    devices = weight.shape[0]
    padded = layer.padding_mode != "zeros"
    if padded:
        x = F.pad(x, layer._reversed_padding_repeated_twice, mode=layer.padding_mode)
    grouped = by_device(x, devices).transpose(0, 1)  # (n, B, C, H, W)
    y = F.conv2d(
        grouped.reshape(grouped.shape[0], -1, *x.shape[2:]),
        weight.reshape(-1, *weight.shape[2:]),
        None,
        layer.stride,
        0 if padded else layer.padding,
        layer.dilation,
        layer.groups * devices,
    )
    y = y.reshape(y.shape[0], devices, -1, *y.shape[2:]).transpose(0, 1)
    return y.reshape(-1, *y.shape[2:])
