"""`csls`: reduce the scores of a candidate that is near to many texts (a hub).

Conneau et al., "Word translation without parallel data" (arXiv 1710.04087), eq. 3; for retrieval with a bank
of other queries, Bogolin et al., "Cross modal retrieval with querybank normalization" (arXiv 2112.12777).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from paramcast.methods.background import Background
from paramcast.methods.base import Method, Predictor, Settings, Support, Traffic
from paramcast.video.tasks.base import Asked
from paramcast.video.tasks.retrieval import embedded


class Csls(Method):
    """s'(t, v) = cos(t, v) - r(v) / 2; r(v) is the mean cosine of v and its k nearest texts of a bank.

    The term of the text, r(t), is left out, since it is the same for all candidates.
    """

    tasks = ("retrieval",)
    identity: ClassVar[Settings | None] = {"bank": "support", "k": 0}

    def grid(self, task: str) -> Sequence[Settings]:
        """Return the choices of the texts in the bank and of the number of neighbors."""
        return [{"bank": bank, "k": k} for bank in ("support", "training", "both") for k in (1, 5)]

    def prepare(self, background: Background) -> None:
        """Embed training captions."""
        super().prepare(background)
        with torch.no_grad():
            _, self._texts = embedded(
                background.frozen, background.reference.bank, background.reference.asked
            )

    def adapt(self, support: Support, settings: Settings, seed: int) -> Predictor:
        """Embed the captions of the device."""
        module, bank, k = self.background.frozen, support.samples.bank, int(settings["k"])
        with torch.no_grad():
            own = embedded(module, bank, support.asked)[1]
        others = {
            "support": own,
            "training": self._texts,
            "both": torch.cat([own, self._texts]),
        }[str(settings["bank"])]

        def predict(asked: Asked) -> Tensor:
            with torch.no_grad():
                shown, texts = embedded(module, bank, asked)
                scores = texts @ shown.T
                if k == 0:
                    return scores
                nearest = (shown @ others.T).topk(min(k, len(others)), dim=1).values
                return scores - nearest.mean(1) / 2

        return predict

    def traffic(self, support: Support, settings: Settings) -> Traffic:
        """Return the bytes of the training captions' embeddings in float16, where they are used."""
        return Traffic(down=0 if settings["bank"] == "support" else 2 * self._texts.numel())
