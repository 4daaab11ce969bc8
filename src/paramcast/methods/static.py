"""`base`: no adaptation."""

from __future__ import annotations

from typing import ClassVar

from paramcast.methods.base import Method, Predictor, Settings, Support
from paramcast.methods.modules import predictor


class Static(Method):
    """The base model as it is: what every gain is counted from."""

    identity: ClassVar[Settings | None] = {}

    def adapt(self, support: Support, settings: Settings, seed: int) -> Predictor:
        """Nothing is done."""
        background = self.background
        return predictor(background.model.task, background.frozen, support.samples.bank)
