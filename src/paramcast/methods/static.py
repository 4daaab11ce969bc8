"""`base`: no adaptation."""

from __future__ import annotations

from typing import ClassVar

from paramcast.methods.base import Method, Predictor, Settings, Support
from paramcast.methods.modules import predictor


class Static(Method):
    """The unchanged base model, against which every gain is measured."""

    identity: ClassVar[Settings | None] = {}

    def adapt(self, support: Support, settings: Settings, seed: int) -> Predictor:
        """Return the answers of the base model."""
        background = self.background
        return predictor(background.model.task, background.frozen, support.samples.bank)
