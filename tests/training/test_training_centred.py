"""Where a task takes a device's mean away, and how the spaces of folds are aligned."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from paramcast.training.uplink import Uplink
from paramcast.video.models.retrieval import RetrievalModel
from paramcast.video.tasks import make_task
from paramcast.video.training.arrays import ClipData
from paramcast.video.training.bank import Bank
from paramcast.video.training.model import ModelConfig, TrainedModel

SHARED = pytest.mark.parametrize("shared", [0, 3])


def retrieval(shared: int, seed: int = 0) -> RetrievalModel:
    """A model of features of 8 and 7 numbers whose norms have seen data."""
    torch.manual_seed(seed)
    model = RetrievalModel(8, 7, shared, width=4).eval()
    torch.manual_seed(99)
    model.image_norm.fit(torch.randn(50, 8) * 2 + 1)
    model.text_norm.fit(torch.randn(50, 7) * 3 - 1)
    return model


@SHARED
def test_the_effect_of_an_offset_is_that_of_taking_it_from_the_features(shared: int) -> None:
    model, task = retrieval(shared), make_task("retrieval")
    centred = task.centred(model)
    assert set(centred) == {"text", "text_shared"} if shared else {"text"}
    texts, moves = torch.randn(5, 7), torch.randn(1, 7)
    outputs: dict[str, torch.Tensor] = {}
    for name in centred:
        model.get_submodule(name).register_forward_hook(
            lambda _, __, out, name=name: outputs.update({name: out})
        )
    model.embed_texts(texts)
    before = dict(outputs)
    model.embed_texts(texts - moves)
    for name, effects in centred.items():
        torch.testing.assert_close(outputs[name], before[name] + effects(moves))


@SHARED
def test_aligned_models_score_as_before_in_the_final_ones_space(shared: int) -> None:
    torch.manual_seed(0)
    frames, texts = torch.randn(40, 2, 8), torch.randn(40, 7)
    bank = Bank(frames, torch.ones(40, 2, dtype=torch.bool), {}, texts, {})
    clips = [ClipData(str(i), i, *[torch.tensor([[i, i, -1]]).numpy()] * 3) for i in range(40)]
    final, fold = retrieval(shared, 1), retrieval(shared, 1)
    with torch.no_grad():
        turn = torch.linalg.qr(torch.randn(4, 4))[0]
        for head in (fold.image, fold.text):  # the same model in another basis
            head.weight.copy_(turn @ head.weight)
            head.bias.copy_(turn @ head.bias)
    before = copy.deepcopy(fold)
    make_task("retrieval").align(fold, final.state_dict(), bank, clips)
    for ours, theirs, old in zip(
        fold(frames, bank.mask, texts),
        final(frames, bank.mask, texts),
        before(frames, bank.mask, texts),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
        torch.testing.assert_close(ours @ ours.T, old @ old.T, atol=1e-4, rtol=0)


@pytest.mark.parametrize("directions", [16, 32])
def test_a_model_has_as_many_directions_as_it_says_and_16_if_it_does_not(
    tmp_path: Path, directions: int
) -> None:
    rng = np.random.default_rng(0)
    uplinks = [Uplink.fit(rng.normal(size=(50, dim)).astype(np.float32), dim) for dim in (8, 7)]
    config = ModelConfig(
        "retrieval",
        "codes",
        "image",
        "text",
        8,
        7,
        4,
        "uniform",
        (),
        (),
        0,
        {},
        "a",
        4,
        centre_dims=directions,
    )
    TrainedModel(config, *uplinks).save(tmp_path)
    if directions == 16:  # as models were before it could be chosen
        stored = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
        del stored["centre_dims"]
        (tmp_path / "config.json").write_text(json.dumps(stored), encoding="utf-8")
    loaded = TrainedModel.load(tmp_path)
    assert loaded.adaptor.centre is not None
    assert loaded.adaptor.centre.count == directions
