"""What adapting takes of a device, counted."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from paramcast.methods.meter import Work, measure, uncounted

FLOAT = 4


@settings(deadline=None, max_examples=20)
@given(rows=st.integers(1, 9), width=st.integers(1, 9), kept=st.integers(1, 5))
def test_what_is_held_together_counts_together(rows: int, width: int, kept: int) -> None:
    x = torch.ones(rows, width)
    size = FLOAT * rows * width
    assert measure(lambda: [x + number for number in range(kept)]) == Work(0, kept * size)
    one_by_one = measure(lambda: [float((x + number)[0, 0]) for number in range(kept)])
    assert one_by_one.peak_bytes < size + 2 * FLOAT


def test_what_was_there_before_and_views_of_it_are_free() -> None:
    x = torch.ones(100, 10)
    assert measure(lambda: [x.T, x[5:], x.reshape(-1), x.add_(1)]) == Work()


def test_a_step_of_adam_takes_gradients_and_two_moments() -> None:
    layer, x = nn.Linear(300, 200), torch.ones(16, 300)
    size = FLOAT * (300 * 200 + 200)

    def step(work: nn.Module) -> None:
        optimizer = torch.optim.Adam(work.parameters(), foreach=False)
        work(x).sum().backward()
        optimizer.step()

    def on_a_copy() -> None:
        with uncounted():
            work = deepcopy(layer)
        step(work)

    found = measure(on_a_copy)
    assert found.macs == 2 * 16 * 300 * 200  # forward, and backward to the weights; none to x
    assert 3 * size <= found.peak_bytes < 5.2 * size
    counted = measure(lambda: step(deepcopy(layer)))
    assert counted.macs == found.macs


def test_forward_alone_takes_little() -> None:
    layer, x = nn.Linear(300, 200).requires_grad_(False), torch.ones(16, 300)
    assert measure(lambda: layer(x)) == Work(16 * 300 * 200, FLOAT * 16 * 200)


def test_what_fails_is_not_hidden() -> None:
    def broken() -> Tensor:
        raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        measure(broken)


def test_attention_counts_forward_and_backward() -> None:
    heads, length, width = 2, 5, 8
    q, k, v = (torch.ones(1, heads, length, width, requires_grad=True) for _ in range(3))
    product = heads * length * length * width  # of the scores; the values take as much
    with torch.no_grad():
        assert measure(lambda: F.scaled_dot_product_attention(q, k, v)).macs == 2 * product
    both = measure(lambda: F.scaled_dot_product_attention(q, k, v).sum().backward())
    assert both.macs == (2 + 5) * product  # backward computes the scores again
