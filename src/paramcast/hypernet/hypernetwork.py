"""The hypernetwork: context, FDA, gain predictor and adapter, as one module to train, save and serve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from paramcast.adapters import Adapter
from paramcast.hypernet.adr import AnchorReasoner
from paramcast.hypernet.context import ConstantContext, ContextInputs, SupportContext, TruthContext
from paramcast.hypernet.fda import FastDomainAdaptor
from paramcast.hypernet.gain_predictor import GainPredictor

Evidence = Literal["anchor", "reasoner", "clip"]
"""Information about a support clip that a hypernetwork reads: the features of its anchor frames, the ADR's
distribution given these features, or, for comparison, the mean feature of the whole clip."""


@dataclass(frozen=True)
class HypernetworkConfig:
    """Inputs of a hypernetwork.

    Attributes:
        condition: 'support' (the device's support set), 'truth' (the oracle) or 'constant' (the control).
        image_dim, text_dim: Lengths of the uplink features.
        truth_dim: Length of the description of a true domain.
        latent: Length of the ADR's z.
        evidence: Information about a clip that is given, if the condition is 'support'.
    """

    condition: Literal["support", "truth", "constant"]
    image_dim: int
    text_dim: int
    truth_dim: int
    latent: int = 64
    evidence: Evidence = "reasoner"


class Hypernetwork(nn.Module):
    """Generates updates of an adapter for many devices in one forward pass.

    Its state contains the hypernetwork and the adapter, but not the adapted module.
    """

    def __init__(self, config: HypernetworkConfig, adapter: Adapter) -> None:
        super().__init__()
        self.config, self.adapter = config, adapter
        self.context = _context(config)
        self.fda = FastDomainAdaptor(self.context.dim, adapter)
        self.gate = GainPredictor(self.fda.hidden)

    @property
    def reasoner(self) -> AnchorReasoner | None:
        """The ADR; None if there is none."""
        return self.context.reasoner if isinstance(self.context, SupportContext) else None

    def forward(self, inputs: ContextInputs) -> tuple[dict[str, Tensor], Tensor]:
        """Generate update tensors (B, *shape) for B devices, and the ADR's loss (); for training, ungated."""
        vector, loss = self.context(inputs)
        return self.values(self.fda.encode(vector), inputs), loss

    def gated(self, inputs: ContextInputs) -> dict[str, Tensor]:
        """Generate update tensors (B, *shape) for B devices; base values where the gate refuses a device."""
        encoded = self.encode(inputs)
        values, accepted = self.values(encoded, inputs), self.gate(encoded)
        return values | {
            name: torch.where(accepted.reshape(-1, *[1] * base.dim()), values[name], base)
            for name, base in self.unedited().items()
        }

    def unedited(self) -> dict[str, Tensor]:
        """Return the adapter's values that leave the module unchanged, without a device axis."""
        return self.adapter.base_values()

    def encode(self, inputs: ContextInputs) -> Tensor:
        """Encode the inputs of B devices as the FDA's hidden vectors (B, hidden)."""
        return self.fda.encode(self.context(inputs).vector)

    def values(self, encoded: Tensor, inputs: ContextInputs) -> dict[str, Tensor]:
        """Generate update tensors (B, *shape) from the output of `encode`, without the gate."""
        values: dict[str, Tensor] = self.fda(encoded)
        return values

    def generate(self, inputs: ContextInputs, *, gate: bool = True) -> dict[str, Tensor]:
        """Generate update tensors (B, *shape) for inference: without gradients and dropout.

        Args:
            inputs: Inputs of B devices.
            gate: Whether devices that the gate refuses keep the base values.
        """
        with torch.no_grad():
            return self.eval().gated(inputs) if gate else self.eval()(inputs)[0]


def _context(config: HypernetworkConfig) -> SupportContext | TruthContext | ConstantContext:
    if config.condition == "support":
        latent = config.latent if config.evidence == "reasoner" else None
        return SupportContext(config.image_dim, config.text_dim, latent)
    return TruthContext(config.truth_dim) if config.condition == "truth" else ConstantContext()
