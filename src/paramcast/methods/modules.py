"""What several methods do with a copy of the base model."""

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
"""Task -> the last layers of its model."""

_QUESTIONS_A_CLIP = 4


def predictor(task: Task, module: nn.Module, bank: Bank) -> Predictor:
    """Answer with a module as it is now."""

    def predict(asked: Asked) -> Tensor:
        with torch.no_grad():
            return task.outputs(module, bank, asked)

    return predict


def logits(task: Task, module: nn.Module, bank: Bank, asked: Asked) -> Tensor:
    """Outputs (N, A or G) on the scale that the model was trained with: softmax gives probabilities."""
    temperature: float = getattr(module, "temperature", 1.0)
    return task.outputs(module, bank, asked) * temperature


def entropy(scaled: Tensor) -> Tensor:
    """Mean entropy () in nats of the softmax over the last axis."""
    log = scaled.log_softmax(-1)
    return -(log.exp() * log).sum(-1).mean()


def few_a_clip(task: Task, asked: Asked) -> Asked:
    """The first few questions of each clip, for methods that run the model many times; captions all stay."""
    if not task.has_answers:
        return asked
    rows = [np.flatnonzero(asked.shown == row)[:_QUESTIONS_A_CLIP] for row in np.unique(asked.shown)]
    kept = np.concatenate(rows)
    return Asked(asked.shown[kept], asked.texts[kept], asked.options[kept])


def labeled_loss(task: Task, module: nn.Module, bank: Bank, labeled: Labeled) -> Tensor:
    """Cross-entropy () over the labels that the model knows; zero where it knows none."""
    scaled = logits(task, module, bank, labeled.asked)
    total = F.cross_entropy(scaled, labeled.answers, ignore_index=-1, reduction="sum")
    return total / (labeled.answers >= 0).sum().clamp(min=1)


def fused(task: Task, module: nn.Module, bank: Bank, asked: Asked) -> Tensor:
    """(N, W): what the answer head of question answering is given. Changes no module."""
    assert isinstance(module.head, nn.Module)
    head, module.head = module.head, nn.Identity()
    try:
        return task.outputs(module, bank, asked)
    finally:
        module.head = head
