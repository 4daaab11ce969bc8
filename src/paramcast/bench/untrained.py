"""Models of the default sizes with random parameters, for measurements of time alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from paramcast.artifact.server_write import write_server_side
from paramcast.hypernet.forms import CENTRE_DIMS
from paramcast.protocol import AdaptRequest
from paramcast.training.uplink import IMAGE_DIM, TEXT_DIM, Uplink
from paramcast.video.tasks import make_task
from paramcast.video.training.model import ModelConfig, TrainedModel
from paramcast.video.training.serving import server_side

IMAGE_FEATURES, TEXT_FEATURES, SHARED, FRAMES, ANSWERS = 1664, 768, 384, 8, 1000


def untrained_model(form: str, task: str = "qa", seed: int = 0) -> TrainedModel:
    """Make a model over the default trunks, whose adaptor makes different parameters for every context.

    Args:
        form: Form of the generated parameters.
        task: 'qa' or 'choice' (with 1000 answers), or 'retrieval'.
        seed: Seed of its parameters.
    """
    torch.manual_seed(seed)
    config = ModelConfig(
        task=task,
        form=form,
        image_encoder="efficientnet-lite0-conse",
        text_encoder="minilm-l6-int8",
        image_dim=IMAGE_FEATURES,
        text_dim=TEXT_FEATURES,
        frames=FRAMES,
        sampling="uniform",
        answers=tuple(f"answer {number}" for number in range(ANSWERS)) if task != "retrieval" else (),
        categories=(),
        seed=seed,
        clips={"train": [], "validation": [], "test": []},
        collection="none",
        truth_dim=1,
        shared_dim=SHARED,
        form_options=make_task(task).form_options(form),
        centre_dims=CENTRE_DIMS,
    )
    rng = np.random.default_rng(seed)
    uplinks = [_uplink(rng, *dims) for dims in ((IMAGE_FEATURES, IMAGE_DIM), (TEXT_FEATURES, TEXT_DIM))]
    model = TrainedModel(config, *uplinks)
    for parameter in model.adaptor.fda.generator.heads.parameters():  # type: ignore[union-attr]
        nn.init.normal_(parameter, std=0.01)  # at their initial zeros, all would get the base model
    if model.adaptor.centre and model.adaptor.start:
        for basis in model.adaptor.centre.parameters():
            nn.init.normal_(basis, std=0.1)
        nn.init.constant_(model.adaptor.start.gate, 0.1)
    return model


def untrained_artifact(model: TrainedModel, folder: Path) -> Path:
    """Write the server's half of a model's artifact to `folder`, which is enough to bench the service."""
    return write_server_side(server_side(model), folder)


def made_up_request(model: TrainedModel, device: str, clips: int = 8, seed: int = 0) -> AdaptRequest:
    """Make a request of random uplink features with one query for each clip."""
    rng = np.random.default_rng(seed)
    anchors, queries = (
        rng.normal(size=(clips, uplink.matrix.shape[1])).astype(np.float32)
        for uplink in (model.image_uplink, model.text_uplink)
    )
    return AdaptRequest(device, model.sha256(), 0, anchors, queries, np.arange(clips))


def _uplink(rng: np.random.Generator, features: int, dim: int) -> Uplink:
    matrix = rng.normal(size=(features, dim)) * features**-0.5
    return Uplink(np.zeros(features, np.float32), matrix.astype(np.float32))
