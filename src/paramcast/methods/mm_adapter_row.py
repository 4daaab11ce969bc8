"""`mm_adapter`: attention between a text and its candidates, trained with a few labels of the device.

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
"""Number of frequent answers that are the classes of questions. Every question attends to each of them."""

_SHORT = {"steps": 60, "patience": 40}  # options of `MultiModalAdapter`: seconds of one core for a device
_AT_ONCE = 16  # texts in a batch, each with a sequence of all candidates


class MmAdapter(Method):
    """logits_c = scale · <x', t'_c>: attention shifts a vector x and the classes t_1 .. t_C.

    Retrieval: x is the embedding of a text, the classes are the embeddings of the clips. Questions: x is the
    input of the head, the classes are the rows w_a of the head for the most frequent answers; lengths and
    biases do not change.
    """

    tasks = ("qa", "retrieval")
    identity: ClassVar[Settings | None] = {"mask": "bias", "blend": 0.0}

    def grid(self, task: str) -> Sequence[Settings]:
        """Return the choices of the attention mask and of the shift's share; the paper's share is 0.2."""
        return [{"mask": mask, "blend": blend} for mask in ("bias", "strict") for blend in (0.05, 0.1, 0.2)]

    def adapt(self, support: Support, settings: Settings, seed: int) -> Predictor:
        """Train the adapter on the labels.

        Nothing is adapted if, in retrieval, there are fewer than two clips, or if no label of a question is
        one of the `ANSWERS` most frequent answers.

        Raises:
            ValueError: The support set has no labels.
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
    """Compute cosines after the adapter: (N, E), (C, E) -> (N, C)."""
    x, classes = F.normalize(x, dim=-1), F.normalize(classes, dim=-1)
    with torch.no_grad():
        return torch.cat([adapter.network_.cosines(some, classes) for some in torch.split(x, _AT_ONCE)])
