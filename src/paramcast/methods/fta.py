"""`fta`: fine-tuning of heads, biases or low-rank edits with a few labels of the device.

Biases: Ben Zaken et al., "BitFit" (arXiv 2106.10199). Low rank: Hu et al., "LoRA" (arXiv 2106.09685).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from paramcast.adapters import AdaptedModule
from paramcast.hypernet.forms import form_adapter
from paramcast.methods.base import Labeled, Method, Predictor, Settings, Support
from paramcast.methods.modules import HEADS, labeled_loss
from paramcast.video.tasks.base import Asked

STEPS = 30
HELD_FROM = 8
"""From this number of labels on, a quarter of them is held out for early stopping; below it none is."""

_FEW_STEPS = 10
_RANK = 4

Loss = Callable[[Labeled], Tensor]


class FineTuning(Method):
    """Adam on the cross-entropy of the device's labels, with early stopping."""

    identity: ClassVar[Settings | None] = {"of": "head", "rate": 0.0}

    def grid(self, task: str) -> Sequence[Settings]:
        """Return the choices of the trained parameters and of the learning rate."""
        rates = {"head": (1e-4, 1e-3), "bias": (1e-3, 1e-2), "lora": (1e-3, 1e-2)}
        return [{"of": of, "rate": rate} for of, pair in rates.items() for rate in pair]

    def adapt(self, support: Support, settings: Settings, seed: int) -> Predictor:
        """Fine-tune a copy of the base model."""
        return self.tuned(self.background.module(), support, settings, seed)

    def tuned(self, module: nn.Module, support: Support, settings: Settings, seed: int) -> Predictor:
        """Fine-tune `module` in place.

        Raises:
            ValueError: The support set has no labels.
        """
        if support.labeled is None:
            raise ValueError("fine-tuning needs labels")
        task, bank = self.background.model.task, support.samples.bank
        layers = [target.removesuffix(".bias") for target in task.targets]
        adapted = AdaptedModule(module, form_adapter("lowrank", module, layers, {"rank": _RANK}))
        values: dict[str, Tensor] | None = None
        if settings["of"] == "lora":
            values = _lora(adapted.adapter.shapes, seed)
            trained = [value for value in values.values() if value.requires_grad]
        else:
            trained = [p.requires_grad_() for p in _parameters(module, task.name, str(settings["of"]))]

        def loss(labeled: Labeled) -> Tensor:
            with adapted.use(values) as running:
                return labeled_loss(task, running, bank, labeled)

        frozen = settings["of"] == "head" and task.has_answers
        with _once_each(adapted.replica, "fusion", loss) if frozen else nullcontext(loss) as quick:
            fit_labels(trained, quick, support.labeled, not task.has_answers, float(settings["rate"]), seed)

        def predict(asked: Asked) -> Tensor:
            with torch.no_grad(), adapted.use(values) as running:
                return task.outputs(running, bank, asked)

        return predict


def fit_labels(
    trained: Sequence[Tensor], loss: Loss, labeled: Labeled, shared: bool, rate: float, seed: int
) -> None:
    """Run full-batch Adam; leave `trained` at the step of the lowest loss on the labels that are held out.

    Args:
        trained: Tensors that are changed in place.
        loss: Computes the loss of given labels.
        labeled: All labels.
        shared: All labels share their candidates, which then stay whole when labels are held out.
        rate: Learning rate.
        seed: Draws the labels that are held out.
    """
    learned, held = _split(labeled, shared, seed)
    optimizer = torch.optim.Adam(trained, lr=rate)
    best, kept = float("inf"), [tensor.detach().clone() for tensor in trained]
    for step in range((STEPS if held else _FEW_STEPS) + 1):
        if held:
            with torch.no_grad():
                found = float(loss(held))
            if found < best:
                best, kept = found, [tensor.detach().clone() for tensor in trained]
        if step < (STEPS if held else _FEW_STEPS):
            optimizer.zero_grad()
            loss(learned).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    if held:
        with torch.no_grad():
            for tensor, value in zip(trained, kept, strict=True):
                tensor.copy_(value)


@contextmanager
def _once_each(module: nn.Module, part: str, loss: Loss) -> Iterator[Loss]:
    """Yield the same loss, which runs the frozen submodule `part` only once for the same labels."""
    outputs: dict[int, Tensor] = {}
    original, asked = module.get_submodule(part), 0

    class Remembered(nn.Module):
        def forward(self, *inputs: Tensor) -> Tensor:
            if asked not in outputs:
                outputs[asked] = original(*inputs)
            return outputs[asked]

    def quick(labeled: Labeled) -> Tensor:
        nonlocal asked
        asked = id(labeled)
        return loss(labeled)

    setattr(module, part, Remembered())
    try:
        yield quick
    finally:
        setattr(module, part, original)


def _split(labeled: Labeled, shared: bool, seed: int) -> tuple[Labeled, Labeled | None]:
    """Split the labels into training and held-out labels; `shared` candidates stay whole in both."""
    count = len(labeled.answers)
    if count < HELD_FROM:
        return labeled, None
    order = np.random.default_rng(seed).permutation(count)
    return _part(labeled, shared, order[count // 4 :]), _part(labeled, shared, order[: count // 4])


def _part(labeled: Labeled, shared: bool, rows: np.ndarray) -> Labeled:
    asked = labeled.asked
    shown = asked.shown if shared else asked.shown[rows]
    return Labeled(Asked(shown, asked.texts[rows], asked.options[rows]), labeled.answers[rows])


def _parameters(module: nn.Module, task: str, of: str) -> list[nn.Parameter]:
    if of == "bias":
        return [parameter for name, parameter in module.named_parameters() if name.endswith("bias")]
    return [p for name in HEADS[task] for p in module.get_submodule(name).parameters()]


def _lora(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """Make factors A of zeros and B of random numbers, so that the first step starts at the base model."""
    generator = torch.Generator().manual_seed(seed % 2**63)
    values = {}
    for name, shape in shapes.items():
        value = torch.zeros(shape)
        if name.endswith(".b"):
            value = torch.randn(shape, generator=generator) * shape[-1] ** -0.5
        # LoRA does not change biases.
        values[name] = value.requires_grad_(not name.endswith(".bias"))
    return values
