"""`lora`: low-rank adapters by PEFT, trained with a few labels of the device.

Hu et al., "LoRA: low-rank adaptation of large language models" (arXiv 2106.09685).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from paramcast.adapters import select_targets
from paramcast.methods.base import Labeled, Method, Predictor, Settings, Support
from paramcast.methods.fta import fit_labels
from paramcast.methods.modules import labeled_loss, predictor


class Lora(Method):
    """W + B A of rank r, with B zero at first, on the layers that the cloud's updates change; biases stay."""

    identity: ClassVar[Settings | None] = {"rank": 4, "rate": 0.0}

    def grid(self, task: str) -> Sequence[Settings]:
        """Return the choices of rank and learning rate."""
        return [{"rank": rank, "rate": rate} for rank in (2, 8) for rate in (1e-3, 3e-3, 1e-2)]

    def adapt(self, support: Support, settings: Settings, seed: int) -> Predictor:
        """Put adapters into a copy of the base model, and train them.

        Raises:
            ValueError: The support set has no labels.
        """
        from peft import LoraConfig, inject_adapter_in_model  # slow: the import takes seconds

        if support.labeled is None:
            raise ValueError("fine-tuning needs labels")
        task, bank, rank = self.background.model.task, support.samples.bank, int(settings["rank"])
        module = self.background.module()
        with torch.random.fork_rng():
            torch.manual_seed(seed % 2**63)
            config = LoraConfig(r=rank, lora_alpha=rank, target_modules=_targets(module, task.targets))
            module = inject_adapter_in_model(config, module)

        def loss(labeled: Labeled) -> Tensor:
            return labeled_loss(task, module, bank, labeled)

        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        fit_labels(trained, loss, support.labeled, not task.has_answers, float(settings["rate"]), seed)
        return predictor(task, module.eval(), bank)


def _targets(module: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Return the names of the linear layers whose parameters the cloud's updates change."""
    chosen = select_targets(module, [pattern.removesuffix(".bias") for pattern in patterns])
    layers = dict.fromkeys(name.rpartition(".")[0] for name in chosen)
    return [name for name in layers if isinstance(module.get_submodule(name), nn.Linear)]
