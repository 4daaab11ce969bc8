"""Functions that several methods use with a copy of the base model."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paramcast.methods.base import Labeled, Predictor
from paramcast.video.tasks import Task
from paramcast.video.tasks.base import Asked
from paramcast.video.training.bank import Bank

HEADS = {"qa": ("head",), "choice": ("score",), "retrieval": ("image", "text")}
"""Task -> names of the last layers of its model."""

_QUESTIONS_A_CLIP = 4


def predictor(task: Task, module: nn.Module, bank: Bank) -> Predictor:
    """Make a predictor that answers with the present state of a module."""

    def predict(asked: Asked) -> Tensor:
        with torch.no_grad():
            return task.outputs(module, bank, asked)

    return predict


def logits(task: Task, module: nn.Module, bank: Bank, asked: Asked) -> Tensor:
    """Compute outputs (N, A or G) on the scale of the training, where softmax gives probabilities."""
    temperature: float = getattr(module, "temperature", 1.0)
    return task.outputs(module, bank, asked) * temperature


def entropy(scaled: Tensor) -> Tensor:
    """Compute the mean entropy () in nats of the softmax over the last axis."""
    log = scaled.log_softmax(-1)
    return -(log.exp() * log).sum(-1).mean()


def few_a_clip(task: Task, asked: Asked) -> Asked:
    """Keep the first few questions of each clip, or all captions. Some methods run the model many times."""
    if not task.has_answers:
        return asked
    rows = [np.flatnonzero(asked.shown == row)[:_QUESTIONS_A_CLIP] for row in np.unique(asked.shown)]
    kept = np.concatenate(rows)
    return Asked(asked.shown[kept], asked.texts[kept], asked.options[kept])


def labeled_loss(task: Task, module: nn.Module, bank: Bank, labeled: Labeled) -> Tensor:
    """Compute the cross-entropy () over the labels that the model knows; zero where it knows none."""
    scaled = logits(task, module, bank, labeled.asked)
    total = F.cross_entropy(scaled, labeled.answers, ignore_index=-1, reduction="sum")
    return total / (labeled.answers >= 0).sum().clamp(min=1)


def fused(task: Task, module: nn.Module, bank: Bank, asked: Asked) -> Tensor:
    """Compute the input (N, W) of the answer head in question answering. The module stays as it is."""
    assert isinstance(module.head, nn.Module)
    head, module.head = module.head, nn.Identity()
    try:
        return task.outputs(module, bank, asked)
    finally:
        module.head = head
