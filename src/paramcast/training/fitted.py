"""What training adds to a module."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from paramcast.adapters import AdaptedModule
from paramcast.errors import InputError
from paramcast.hypernet import Hypernetwork
from paramcast.training.start import Start
from paramcast.training.uplink import Uplink


class NotFittedError(InputError):
    """The model has to be fitted first."""

    def __init__(self) -> None:
        super().__init__(
            "the model has no hypernetwork yet; call fit(train_devices, validation_devices) first"
        )


@dataclass
class Fitted:
    """What training adds to the module.

    Attributes:
        uplink: From an example's features to the numbers that are sent.
        hypernets: Condition -> hypernetwork; 'support' serves devices.
        adapted: Condition -> the module under that hypernetwork's updates.
        example: A few inputs of the module's own layout, to trace it with; in a folder, made ones.
        domains: Names of the true domains that the oracle knows; empty where domains are numbers or unknown.
        truth_dim: Length of a true domain's description; 0 where it is unknown.
        start: What a device does by itself before an update comes on top; None: nothing.
        summary: Results on validation devices, and the verdict in words.
    """

    uplink: Uplink
    hypernets: dict[str, Hypernetwork]
    adapted: dict[str, AdaptedModule]
    example: Any
    domains: tuple[str, ...] = ()
    truth_dim: int = 0
    summary: dict[str, Any] = field(default_factory=dict)
    start: Start | None = None
