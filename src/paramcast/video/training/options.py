"""Options of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from paramcast.hypernet.hypernetwork import Evidence


@dataclass(frozen=True)
class TrainingOptions:
    """Options of a training run; a killed run continues only with the same options.

    Attributes:
        task: 'qa', 'choice' or 'retrieval'.
        form: Form of the updates.
        seed: Seed of splits, devices and training.
        image_encoder, text_encoder: Names of the encoders.
        frames, sampling: How frames are taken from a clip.
        devices: Number of training devices. Devices with a camera or a vocabulary need their own features.
        adaptor_steps: Optimizer steps of each hypernetwork.
        form_options: Options of the form (`rank`, `count`).
        evidence: Information about a support clip that a hypernetwork reads; see `Evidence`.
        anchors: Number of frames of a clip that a device sends.
    """

    task: str
    form: str = "codes"
    seed: int = 0
    image_encoder: str = "efficientnet-lite0-conse"
    text_encoder: str = "minilm-l6-int8"
    frames: int = 8
    sampling: str = "uniform"
    devices: int = 200
    adaptor_steps: int = 600
    form_options: Mapping[str, int] = field(default_factory=dict)
    evidence: Evidence = "reasoner"
    anchors: int = 1
