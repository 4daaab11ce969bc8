"""What a form of edit has to say: which tensors travel, their base values, and how a layer uses them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

Shape = tuple[int, ...]
Values = Mapping[str, Tensor]
Operation = Callable[[Tensor, Tensor], Tensor]

CONVOLUTIONS: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Conv1d: F.conv1d,
    nn.Conv2d: F.conv2d,
    nn.Conv3d: F.conv3d,
}
"""Layer -> its function."""


@dataclass(frozen=True)
class Slot:
    """One dynamic layer: its name in the module, its kind, and the shapes of its own parameters.

    Attributes:
        name: Dotted path in the module.
        kind: 'linear', 'layernorm' or 'conv' (of one, two or three axes).
        weight: Shape of the layer's weight.
        bias: Shape of the layer's bias, None where it has none.
        edits_weight: Whether the weight is edited, or the bias alone.
    """

    name: str
    kind: str
    weight: Shape
    bias: Shape | None
    edits_weight: bool = True

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
    are device-major: their first axis is a multiple of B, and the rows of a device lie together. Without the
    axis, as (*s), values are for all rows: so a device's graph has no reshaping in it.
    """

    form: ClassVar[str]

    def __init__(self, layers: Mapping[str, nn.Module], bias_only: Collection[str] = ()) -> None:
        super().__init__()
        self.slots = {name: slot_of(name, layer, name in bias_only) for name, layer in layers.items()}

    @abstractmethod
    def shapes(self) -> dict[str, Shape]:
        """Package tensors and their shapes, without the device axis."""

    def base_values(self, layers: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        """Values that leave every layer as it is; zeros unless a form says otherwise."""
        return {name: torch.zeros(shape) for name, shape in self.shapes().items()}

    def forward(self, name: str, layer: nn.Module, x: Tensor, y: Tensor, values: Values) -> Tensor:
        """The output of layer `name` under `values`, given its input `x` and its unedited output `y`."""
        slot = self.slots[name]
        if slot.edits_weight:
            return self.apply_to(slot, layer, x, y, values)
        return add_vector(y, self.bias_edit(slot, layer, values), slot)

    @abstractmethod
    def apply_to(self, slot: Slot, layer: nn.Module, x: Tensor, y: Tensor, values: Values) -> Tensor:
        """The output of a layer whose weight, and bias if it has one, are edited."""

    @abstractmethod
    def bias_edit(self, slot: Slot, layer: nn.Module, values: Values) -> Tensor:
        """What is added to the layer's bias: (B, *bias), or (*bias) for all rows."""


def slot_of(name: str, layer: nn.Module, bias_only: bool = False) -> Slot:
    """Describe a layer that can be made dynamic.

    Raises:
        TypeError: The layer is not a Linear, LayerNorm or convolution with a weight, or it has no bias where
            that alone is to be edited.
    """
    kinds = {nn.Linear: "linear", nn.LayerNorm: "layernorm"} | dict.fromkeys(CONVOLUTIONS, "conv")
    kind = next((kind for cls, kind in kinds.items() if isinstance(layer, cls)), None)
    weight = getattr(layer, "weight", None)
    # The output layer of nn.MultiheadAttention is never called, only its weight is read: a hook is not run.
    uncalled = isinstance(layer, NonDynamicallyQuantizableLinear)
    if kind is None or weight is None or uncalled:
        raise TypeError(f"{name} is a {type(layer).__name__}; dynamic layers are Linear, LayerNorm or ConvNd")
    bias = getattr(layer, "bias", None)
    if bias is None and bias_only:
        raise TypeError(f"{name} has no bias that could be edited")
    return Slot(name, kind, tuple(weight.shape), None if bias is None else tuple(bias.shape), not bias_only)


def by_device(x: Tensor, devices: int) -> Tensor:
    """(B·n, ...) -> (B, n, ...)."""
    return x.reshape(devices, x.shape[0] // devices, *x.shape[1:])


def matmul(x: Tensor, matrix: Tensor) -> Tensor:
    """X (B·n, ..., I) times the transpose of matrix (B, O, I), each device's rows with its own.

    One batched product (`bmm`): measured 2-6 times as fast as vmap or a loop over devices.

    Args:
        x: (B·n, ..., I).
        matrix: (B, O, I), or (O, I) for all rows.

    Returns:
        (B·n, ..., O).
    """
    if matrix.dim() == 2:
        return F.linear(x, matrix)
    rows = x.reshape(matrix.shape[0], -1, x.shape[-1])
    return torch.bmm(rows, matrix.transpose(1, 2)).reshape(*x.shape[:-1], matrix.shape[1])


def add_matmul(y: Tensor, x: Tensor, matrix: Tensor) -> Tensor:
    """`y + matmul(x, matrix)`; one operation of a device's graph instead of two, where it has rows alone."""
    if matrix.dim() == 2 and y.dim() == 2:
        return torch.addmm(y, x, matrix.T)
    return y + matmul(x, matrix)


def add_vector(y: Tensor, vector: Tensor, slot: Slot) -> Tensor:
    """Add a device's vector (B, *bias), or one (*bias) for all rows, to a layer's output y (B·n, ...)."""
    assert slot.bias is not None
    behind = len(slot.weight) - 2 if slot.kind == "conv" else 0
    return _aligned(torch.add, y, vector, len(slot.bias), behind)


def scale_vector(y: Tensor, vector: Tensor, dims: int = 1) -> Tensor:
    """Multiply the last `dims` axes of y (B·n, ..., *v) by a device's vector (B, *v), or one (*v) for all."""
    return _aligned(torch.mul, y, vector, dims, behind=0)


def _aligned(operation: Operation, y: Tensor, vector: Tensor, dims: int, behind: int) -> Tensor:
    """`operation` of y and a vector of `dims` axes that has `behind` axes of y behind it."""
    own = vector.shape[vector.dim() - dims :]
    if vector.dim() == dims:
        return operation(y, vector.reshape(*own, *[1] * behind) if behind else vector)
    grouped = by_device(y, vector.shape[0])
    between = grouped.dim() - 1 - dims - behind
    shaped = vector.reshape(vector.shape[0], *[1] * between, *own, *[1] * behind)
    return operation(grouped, shaped).reshape(y.shape)


def dense(slot: Slot, layer: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The layer with a whole weight (B, *slot.weight) and bias (B, *slot.bias) for each device."""
    if isinstance(layer, nn.Linear):
        if weight.dim() == 2:
            return F.linear(x, weight, bias)
        y = matmul(x, weight)
    elif isinstance(layer, nn.LayerNorm):
        y = scale_vector(F.layer_norm(x, layer.normalized_shape, eps=layer.eps), weight, len(slot.weight))
    else:
        y = convolve(layer, x, weight)
    return y if bias is None else add_vector(y, bias, slot)


def convolve(layer: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
    """ConvNd of x (B·n, C, *axes) with a kernel for each device, weight (B, O, C / groups, *kernel), no bias.

    The devices become groups of one grouped convolution; a weight without their axis is for all rows.
    """
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    function = next(function for cls, function in CONVOLUTIONS.items() if isinstance(layer, cls))
    weight = weight if weight.dim() > x.dim() else weight[None]
    devices = weight.shape[0]
    padded = layer.padding_mode != "zeros"
    if padded:
        x = F.pad(x, layer._reversed_padding_repeated_twice, mode=layer.padding_mode)
    grouped = by_device(x, devices).transpose(0, 1)  # (n, B, C, *axes)
    y = function(
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
