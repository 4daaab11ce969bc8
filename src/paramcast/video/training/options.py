"""What a training run is asked to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from paramcast.hypernet.hypernetwork import Evidence


@dataclass(frozen=True)
class TrainingOptions:
    """What a run is asked to do; a resumed run has to be asked the same.

    Attributes:
        task: 'qa' or 'retrieval'.
        form: Of the generated parameters.
        seed: Of splits, devices and training.
        image_encoder, text_encoder: Names of the trunks.
        frames, sampling: How frames are taken from a clip.
        devices: Training devices; those with a camera or a vocabulary take features of their own.
        adaptor_steps: Optimizer steps of each adaptor.
        form_options: Of the form (`rank`, `count`).
        evidence: What an adaptor is given of a support clip.
        anchors: Frames that are sent of a clip.
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
