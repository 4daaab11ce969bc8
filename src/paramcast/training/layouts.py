"""The layout of a module's inputs and outputs: the examples are on the first axis."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from paramcast.adapters.checking import difference
from paramcast.adapters.trees import floats_of
from paramcast.errors import InputError
from paramcast.training import examples


class MixedRowsWarning(UserWarning):
    """The module's output for an example depends on the other examples of its batch."""


def check_rows(net: nn.Module, inputs: Any, outputs: Any) -> None:
    """Check that outputs have the examples on their first axis, as inputs do.

    Warns with MixedRowsWarning if the output of an example changes when another example is left out.

    Raises:
        InputError: The outputs have the same shapes with one example less.
    """
    count, name = examples.count(inputs), type(net).__name__
    if count < 2:
        return
    with torch.no_grad():
        fewer = examples.call(net, examples.take(inputs, slice(0, count - 1)))
    whole, less = ([x for x in floats_of(each) if x.dim()] for each in (outputs, fewer))
    if not whole or len(whole) != len(less):
        return
    way = (
        "every input and output has the examples on its first axis; wrap a module that wants time "
        "first: forward(self, x): return self.inner(x.transpose(0, 1))"
    )
    if all(one.shape == other.shape for one, other in zip(whole, less, strict=True)):
        shape = tuple(whole[0].shape)
        raise InputError(f"{name} gives outputs {shape} for {count} examples and for {count - 1}: {way}")
    told = len(whole[0]) == count and whole[0].shape[1:] == less[0].shape[1:]
    if told and (off := difference(whole[0][: count - 1], less[0])) > 1e-2:
        warnings.warn(
            f"an example's output of {name} changes by {off:.2g} of its size when another example "
            f"is left out: {way}",
            MixedRowsWarning,
            stacklevel=4,
        )
