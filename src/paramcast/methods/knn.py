"""`knn`: a cache of labeled examples beside the model.

Zhang et al., "Tip-Adapter: training-free adaption of CLIP for few-shot classification" (arXiv 2111.03930).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paramcast.methods.base import Method, Predictor, Settings, Support
from paramcast.methods.modules import fused
from paramcast.video.tasks.base import Asked
from paramcast.video.tasks.retrieval import embedded


class Knn(Method):
    """logits' = logits + alpha · sum over examples i of exp(-beta (1 - cos(f, f_i))) · y_i.

    Questions: f is the input of the head, y_i the answer, one-hot. Retrieval: f is the embedding of the
    caption, and y_i(v) = cos(v, v_i), where v_i is the clip of example i.
    """

    tasks = ("qa", "retrieval")
    identity: ClassVar[Settings | None] = {"alpha": 0.0, "beta": 5.0}

    def grid(self, task: str) -> Sequence[Settings]:
        """Return the choices of weight and sharpness; the scale of cosines is a twelfth of that of logits."""
        weights = (0.1, 0.3, 1.0) if task == "retrieval" else (1.0, 3.0, 10.0)
        return [{"alpha": alpha, "beta": beta} for alpha in weights for beta in (5.0, 20.0)]

    def adapt(self, support: Support, settings: Settings, seed: int) -> Predictor:
        """Fill the cache.

        Raises:
            ValueError: The support set has no labels.
        """
        if support.labeled is None:
            raise ValueError("a cache of labeled examples needs labels")
        task, module, bank = self.background.model.task, self.background.frozen, support.samples.bank
        asked, answers = support.labeled.asked, support.labeled.answers
        alpha, beta = float(settings["alpha"]), float(settings["beta"])
        with torch.no_grad():
            if task.name == "retrieval":
                shown, keys = embedded(module, bank, asked)
                values = shown[answers]
            else:
                known = answers >= 0
                keys = F.normalize(fused(task, module, bank, asked), dim=-1)[known]
                values = answers[known]

        def near(x: Tensor) -> Tensor:
            return alpha * (-beta * (1 - x @ keys.T)).exp()

        def predict(asked: Asked) -> Tensor:
            with torch.no_grad():
                if task.name == "retrieval":
                    shown, texts = embedded(module, bank, asked)
                    return texts @ shown.T + near(texts) @ (values @ shown.T)
                z = fused(task, module, bank, asked)
                scores: Tensor = cast(nn.Linear, module.head)(z)
                return scores.index_add(1, values, near(F.normalize(z, dim=-1)))

        return predict
