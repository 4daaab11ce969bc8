"""Further base models on the training material of the model: trained once, kept, and resumed after a kill."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from paramcast.methods.background import Background
from paramcast.training.fitting import fit
from paramcast.training.seeding import seed_from

Beside = Callable[[nn.Module, np.random.Generator], Tensor]
"""Module and generator -> a loss () that is added to the task's loss."""


def new_base(background: Background, name: str) -> nn.Module:
    """Make a base model with new parameters, drawn from a seed of `name`, and with the norms of the model."""
    config, frozen = background.model.config, background.frozen
    with torch.random.fork_rng():
        torch.manual_seed(seed_from("base", name, config.seed) % 2**62)
        module = background.model.task.build(
            config.image_dim, config.text_dim, config.shared_dim, config.answers
        )
    # Norms are buffers that are fitted to the training clips, so all base models share them.
    module.load_state_dict(dict(frozen.named_buffers()), strict=False)
    return module


def train_base(
    background: Background, name: str, module: nn.Module, beside: Beside | None = None, **more: nn.Module
) -> nn.Module:
    """Train a base model as `training.stages` does, on the same clips and on 20 devices of the model's mix.

    Args:
        background: Says on which clips to train, and where to keep the result.
        name: Name of the run; part of its seed and of the file name of its checkpoint.
        module: Trained in place.
        beside: A loss that is added in every step.
        more: Modules that are trained with it and are not needed later.

    Returns:
        `module`, in evaluation mode, with its best state on validation devices.
    """
    task, data = background.model.task, background.material
    lessons = data.seen_by(None)

    def loss(rng: np.random.Generator) -> Tensor:
        value = task.base_loss(module, data.bank, lessons.draw(rng), rng, task.base_batch)
        return value if beside is None else value + beside(module, rng)

    def score() -> float:
        means = []
        for device in data.validation:
            outputs = task.outputs(module, data.bank, task.asked(device, data.gallery))
            means.append(np.mean(list(task.figures(outputs, device).values())))
        return float(np.mean(means))

    digest = background.model.sha256()[:16]
    fit(
        name,
        nn.ModuleDict({"base": module, **more}),
        loss,
        score,
        lessons.schedule(task),
        background.model.config.seed,
        background.folder / f"bases-{digest}" / f"{name.replace(' ', '-')}.safetensors",
    )
    return module.requires_grad_(False)
