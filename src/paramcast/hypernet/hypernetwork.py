"""The adaptor: context, FDA and the form's own parameters, as one module to train, save and serve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from paramcast.adapters import Adapter
from paramcast.adapters.dynamic import Dynamic, make_dynamic
from paramcast.hypernet.adr import AnchorReasoner
from paramcast.hypernet.centre import CentreStart
from paramcast.hypernet.context import ConstantContext, ContextInputs, SupportContext, TruthContext
from paramcast.hypernet.fda import FastDomainAdaptor
from paramcast.hypernet.gain_predictor import GainPredictor

Evidence = Literal["anchor", "reasoner", "clip"]
"""What an adaptor is given of a support clip: its anchor frames' features as they are, the ADR's distribution
given these, or, to compare with, the mean feature of the whole clip."""

CENTRE_DIMS = 16
"""Leading directions of text features in which a device's mean is taken away."""


@dataclass(frozen=True)
class HypernetworkConfig:
    """What an adaptor is built from.

    Attributes:
        condition: 'support' (the device's own data), 'truth' (the oracle) or 'constant' (the control).
        form: Form of the generated parameters.
        targets: Patterns of the dynamic layers.
        centred: The layers that read texts whose mean can be taken away.
        image_dim, text_dim: Lengths of the uplink features.
        truth_dim: Length of the description of a true domain.
        latent: Length of the ADR's z.
        options: Of the form (`rank`, `count`).
        evidence: What of a clip is given, where the condition is 'support'.
        centre_dims: Directions of the centre.
    """

    condition: Literal["support", "truth", "constant"]
    image_dim: int
    text_dim: int
    truth_dim: int
    form: str = ""
    targets: tuple[str, ...] = ()
    latent: int = 64
    centred: tuple[str, ...] = ()
    options: Mapping[str, int] = field(default_factory=dict)
    evidence: Evidence = "reasoner"
    centre_dims: int = CENTRE_DIMS


class Hypernetwork(nn.Module):
    """Parameters for the dynamic layers of `module`, in one forward pass.

    The module itself is not a part of the adaptor's state: it is the base model, frozen and shared.
    """

    def __init__(self, config: HypernetworkConfig, module: nn.Module) -> None:
        super().__init__()
        self.config = config
        if isinstance(module, Adapter):
            self._init_adapter(config, module)
            return
        # In a list, the base model stays out of this module's parameters and state dict.
        self._dynamic = [
            make_dynamic(
                module, config.targets, config.form, config.centred, config.centre_dims, **config.options
            )
        ]
        self.edit, self.centre = self.dynamic.edit, self.dynamic.centre
        # Without a device there is no mean of its own.
        self.start = (
            CentreStart(config.centre_dims) if self.centre and config.condition != "constant" else None
        )
        self.context = _context(config)
        self.fda = FastDomainAdaptor(self.context.dim, self.dynamic)
        self.gate = GainPredictor(self.fda.hidden)

    def _init_adapter(self, config, adapter):
        self.adapter = adapter

        class Shim:
            pass

        d = Shim()
        d.edit = Shim()
        d.edit.form = "codes"
        d.edit.shapes = lambda: adapter.shapes
        d.base_values = adapter.base_values
        d.layers = {}
        self._dynamic = [d]
        self.centre = None
        self.start = None
        self.context = _context(config)
        self.fda = FastDomainAdaptor(self.context.dim, d)
        self.gate = GainPredictor(self.fda.hidden)

    @property
    def dynamic(self) -> Dynamic:
        """The base model with its dynamic layers."""
        return self._dynamic[0]

    @property
    def reasoner(self) -> AnchorReasoner | None:
        """The ADR, where there is one."""
        return self.context.reasoner if isinstance(self.context, SupportContext) else None

    def forward(self, inputs: ContextInputs) -> tuple[dict[str, Tensor], Tensor]:
        """Package tensors (B, *shape) for B devices, and the ADR's loss (): for training, with no gate."""
        vector, loss = self.context(inputs)
        return self.values(self.fda.encode(vector), inputs), loss

    def gated(self, inputs: ContextInputs) -> dict[str, Tensor]:
        """Package tensors (B, *shape) for B devices; without an edit where the gate says so.

        The centre has a gate of its own, which is learned with it.
        """
        encoded = self.encode(inputs)
        values, accepted = self.values(encoded, inputs), self.gate(encoded)
        return values | {
            name: torch.where(accepted.reshape(-1, *[1] * base.dim()), values[name], base)
            for name, base in self.unedited().items()
        }

    def unedited(self) -> dict[str, Tensor]:
        """The form's tensors that leave the base model as it is, without a device axis."""
        if hasattr(self, "adapter"):
            return self.adapter.base_values()
        return self.edit.base_values(self.dynamic.layers)

    def encode(self, inputs: ContextInputs) -> Tensor:
        """What the FDA makes of the contexts of B devices: (B, hidden)."""
        return self.fda.encode(self.context(inputs).vector)

    def values(self, encoded: Tensor, inputs: ContextInputs) -> dict[str, Tensor]:
        """Package tensors (B, *shape) of what `encode` gave, with no gate."""
        values: dict[str, Tensor] = self.fda(encoded, self.dynamic)
        if self.centre:
            known = self.start(inputs) if self.start else encoded.new_zeros(len(encoded), self.centre.count)
            values["centre"] = known
        return values

    def generate(self, inputs: ContextInputs) -> dict[str, Tensor]:
        """Package tensors (B, *shape) for use, not for training: sets evaluation mode, keeps no gradients."""
        with torch.no_grad():
            return self.eval().gated(inputs)


def _context(config: HypernetworkConfig) -> SupportContext | TruthContext | ConstantContext:
    if config.condition == "support":
        latent = config.latent if config.evidence == "reasoner" else None
        return SupportContext(config.image_dim, config.text_dim, latent)
    return TruthContext(config.truth_dim) if config.condition == "truth" else ConstantContext()
