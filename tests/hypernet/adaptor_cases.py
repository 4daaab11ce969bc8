"""Small hypernetworks over a small module, for every form and condition."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from paramcast.hypernet import ContextInputs, HypernetworkConfig
from paramcast.hypernet.forms import FORMS, FormHypernetwork
from paramcast.video.models.answer import AnswerModel
from paramcast.video.training.model import CONDITIONS

IMAGE, TEXT, TRUTH, ANSWERS = 6, 5, 4, 3
CASES = [(form, condition) for form in FORMS for condition in CONDITIONS]


def build(form: str, condition: str = "support") -> FormHypernetwork:
    """Build a hypernetwork of an answer model with features of 6 and 5 numbers; parameters are fixed."""
    torch.manual_seed(0)
    module = AnswerModel(IMAGE, TEXT, ANSWERS).eval().requires_grad_(False)
    config = HypernetworkConfig(condition, IMAGE, TEXT, TRUTH, latent=4)  # type: ignore[arg-type]
    return FormHypernetwork(config, form, module, AnswerModel.targets)


def inputs(devices: int = 5, clips: int = 3, whole: bool = True) -> ContextInputs:
    """Make inputs of some devices; with several clips, the last device has one clip and one query less."""
    mask = torch.ones(devices, clips, dtype=torch.bool)
    if clips > 1:
        mask[-1, -1] = False
    return ContextInputs(
        anchors=torch.randn(devices, clips, IMAGE),
        anchor_mask=mask,
        queries=torch.randn(devices, clips, TEXT),
        query_mask=mask,
        clips=torch.randn(devices, clips, IMAGE) if whole else None,
        truth=torch.randn(devices, TRUTH),
    )


def loss(adaptor: FormHypernetwork, known: ContextInputs) -> Tensor:
    """Compute a training loss for which each device needs different answers."""
    values, adr = adaptor(known)
    devices = len(known.anchors)
    frames, questions = torch.randn(devices, 2, IMAGE), torch.randn(devices, 3, TEXT)
    with adaptor.adapted.use(values) as module:
        logits = module(frames, torch.ones(devices, 2, dtype=torch.bool), questions)
    wanted = torch.arange(devices)[:, None].expand(-1, 3) % ANSWERS
    return nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten()) + 0.1 * adr


def shake(adaptor: FormHypernetwork, scale: float = 0.05) -> FormHypernetwork:
    """Set the heads to random values, so that different contexts give different parameters."""
    torch.manual_seed(1)
    for head in adaptor.fda.generator.heads.values():
        for parameter in head.parameters():
            nn.init.normal_(parameter, std=scale)
    return adaptor
