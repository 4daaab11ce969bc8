"""`cloud`: frames go up with every query, and a bigger model answers on the cloud.

The bigger model is a deep ensemble: Lakshminarayanan, Pritzel, Blundell, "Simple and scalable predictive
uncertainty estimation using deep ensembles" (NeurIPS 2017, arXiv 1612.01474).
"""

from __future__ import annotations

import io
import math
import time
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from paramcast.methods.background import Background
from paramcast.methods.base import Method, Predictor, Settings, Support, Traffic
from paramcast.methods.bases import new_base, train_base
from paramcast.video.encoders import image_encoder, text_encoder
from paramcast.video.tasks.base import Asked

MEMBERS = 5
"""Members of the ensemble; the paper finds little gain with more."""

SIDE = 224
"""Side of a sent frame in pixels; the trunk reduces frames to this size anyway."""

_QUALITY = 80  # Pillow's default for WebP
_TOP = 10  # number of clips that a search returns
_TIMES = 5


class Cloud(Method):
    """Mean of the probabilities, or of the cosines, of base models with different seeds."""

    on_cloud = True
    note: ClassVar[str] = "a bigger model answers"

    def prepare(self, background: Background) -> None:
        """Train the members, or read them from the folder."""
        super().prepare(background)
        self._members = [
            train_base(background, name, new_base(background, name))
            for name in (f"member {number + 1} of {MEMBERS}" for number in range(MEMBERS))
        ]

    def adapt(self, support: Support, settings: Settings, seed: int) -> Predictor:
        """Return the answers of the ensemble; nothing is adapted."""
        task, bank = self.background.model.task, support.samples.bank

        def predict(asked: Asked) -> Tensor:
            with torch.no_grad():
                outputs = torch.stack([task.outputs(member, bank, asked) for member in self._members])
            if not task.has_answers:
                return outputs.mean(0)
            return outputs.log_softmax(-1).logsumexp(0) - math.log(MEMBERS)

        return predict

    def traffic(self, support: Support, settings: Settings) -> Traffic:
        """Return the bytes of every query: frames as WebP and a text up, an answer or ten numbers down.

        The bytes are means over the support clips and over the questions or captions about them.
        """
        config, samples = self.background.model.config, support.samples
        frames = [_webp_bytes(samples.pictures(clip.row, config)) for clip in support.clips]
        words = list(samples.bank.text_rows)
        asked = [len(words[row].encode()) for row in support.asked.texts]
        answer = np.mean([len(answer.encode()) for answer in config.answers] or [4 * _TOP])
        up = round(float(np.mean(frames) + np.mean(asked)))
        return Traffic(query_up=up, query_down=round(float(answer)), leaves=("pixels", "texts"))

    def query_ms(self, support: Support, settings: Settings) -> float:
        """Measure the median milliseconds of one query: the trunks and all members."""
        config, samples = self.background.model.config, support.samples
        image, text = image_encoder(config.image_encoder), text_encoder(config.text_encoder)
        pictures = _resized(samples.pictures(support.clips[0].row, config))
        words, first = list(samples.bank.text_rows)[support.asked.texts[0]], support.asked
        asked = Asked(first.shown[:1], first.texts[:1], first.options[:1])
        predict, taken = self.adapt(support, settings, 0), []
        for _ in range(_TIMES):
            start = time.perf_counter()
            image(pictures)
            text([words])
            predict(asked)
            taken.append(1e3 * (time.perf_counter() - start))
        return float(np.median(taken))


def _resized(frames: np.ndarray) -> np.ndarray:
    """Resize (T, H, W, 3) uint8 -> (T, SIDE, SIDE, 3) uint8."""
    return np.stack([np.asarray(Image.fromarray(frame).resize((SIDE, SIDE))) for frame in frames])


def _webp_bytes(frames: np.ndarray) -> int:
    """Count the bytes of frames (T, H, W, 3) uint8 as WebP pictures."""
    total = 0
    for frame in _resized(frames):
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "WEBP", quality=_QUALITY)
        total += file.tell()
    return total
