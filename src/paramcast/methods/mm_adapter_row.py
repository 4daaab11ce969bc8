"""`mm_adapter`: a text and what it may mean attend to each other; trained with a few labels of the device.

Multi-Modal Adapter (arXiv 2409.02958, `methods.mm_adapter`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paramcast.methods.base import Labeled, Method, Predictor, Settings, Support
from paramcast.methods.mm_adapter import MultiModalAdapter
from paramcast.methods.modules import fused, predictor
from paramcast.video.tasks.base import Asked
from paramcast.video.tasks.retrieval import embedded

ANSWERS = 50
"""The most frequent ones are the classes of questions: every question attends to each of them."""

_SHORT = {"steps": 60, "patience": 40}  # of `MultiModalAdapter`: seconds of one core a device
_AT_ONCE = 16  # texts, each with a sequence of all candidates


class MmAdapter(Method):
    """logits_c = scale · <x', t'_c>: a vector x and the classes t_1 .. t_C, shifted by attention among them.

    Retrieval: x is a text's embedding, the classes are those of the clips. Questions: x is what the head is
    given, the classes are the head's rows w_a of the commonest answers; lengths and biases stay.
    """

    tasks = ("qa", "retrieval")
    identity: ClassVar[Settings | None] = {"mask": "bias", "blend": 0.0}

    def grid(self, task: str) -> Sequence[Settings]:
        """The attention's mask, and the shift's share; the paper's share is 0.2."""
        return [{"mask": mask, "blend": blend} for mask in ("bias", "strict") for blend in (0.05, 0.1, 0.2)]

    def adapt(self, support: Support, settings: Settings, seed: int) -> Predictor:
        """Train the adapter on the labels; where these tell of fewer than two classes nothing is adapted.

        Raises:
            ValueError: The support set carries no labels.
        """
        if support.labeled is None:
            raise ValueError("a few-shot adapter needs labels")
        chosen = {"mask": settings["mask"], "blend": float(settings["blend"])}
        options = {**_SHORT, **chosen, "random_state": seed % 2**31}
        adapt = self._questions if self.background.model.task.has_answers else self._retrieval
        return adapt(support, support.labeled, options)

    def _retrieval(self, support: Support, labeled: Labeled, options: dict[str, Any]) -> Predictor:
        task, module, bank = self.background.model.task, self.background.frozen, support.samples.bank
        with torch.no_grad():
            shown, texts = embedded(module, bank, labeled.asked)
        if len(shown) < 2:
            return predictor(task, module, bank)
        scale = math.log(cast(float, module.temperature))
        adapter = MultiModalAdapter(scale=scale, **options)
        adapter.fit(texts.numpy(), labeled.answers.numpy(), shown.numpy())

        def predict(asked: Asked) -> Tensor:
            with torch.no_grad():
                shown, texts = embedded(module, bank, asked)
            return _cosines(adapter, texts, shown)

        return predict

    def _questions(self, support: Support, labeled: Labeled, options: dict[str, Any]) -> Predictor:
        task, module, bank = self.background.model.task, self.background.frozen, support.samples.bank
        head = cast(nn.Linear, module.head)
        rows = head.weight[:ANSWERS]
        with torch.no_grad():
            z = fused(task, module, bank, labeled.asked)
        known = (labeled.answers >= 0) & (labeled.answers < len(rows))
        if not known.any():
            return predictor(task, module, bank)
        lengths = rows.norm(dim=-1)
        scale = math.log(float(z.norm(dim=-1).mean() * lengths.mean()))
        adapter = MultiModalAdapter(scale=scale, **options)
        adapter.fit(z[known].numpy(), labeled.answers[known].numpy(), rows.numpy())

        def predict(asked: Asked) -> Tensor:
            with torch.no_grad():
                z = fused(task, module, bank, asked)
                logits: Tensor = head(z)
            cosines = _cosines(adapter, z, rows)
            logits[:, : len(rows)] = z.norm(dim=-1, keepdim=True) * lengths * cosines + head.bias[: len(rows)]
            return logits

        return predict


def _cosines(adapter: MultiModalAdapter, x: Tensor, classes: Tensor) -> Tensor:
    """(N, E), (C, E) -> (N, C): cosines after the adapter."""
    x, classes = F.normalize(x, dim=-1), F.normalize(classes, dim=-1)
    with torch.no_grad():
        return torch.cat([adapter.network_.cosines(some, classes) for some in torch.split(x, _AT_ONCE)])
