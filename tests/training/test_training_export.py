"""Exported graphs: ONNX Runtime gives torch's outputs under base, made and random parameters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from paramcast.bench.untrained import made_up_request, untrained_model
from paramcast.hypernet.forms import FORMS
from paramcast.video.tasks import TASKS
from paramcast.video.training.export import write_graphs
from paramcast.video.training.serving import OnnxBackend


def run(path: Path, feed: dict[str, np.ndarray]) -> np.ndarray:
    """The graph's output, fed with what it declares."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = {node.name for node in session.get_inputs()}
    output: np.ndarray = session.run(None, {name: v for name, v in feed.items() if name in names})[0]
    return output


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("form", FORMS)
def test_a_device_computes_what_torch_does(form: str, task: str, tmp_path: Path) -> None:
    model = untrained_model(form, task)
    adapted, rng = model.adaptor.adapted, np.random.default_rng(0)
    write_graphs(model, tmp_path)
    base = {name: value.numpy() for name, value in adapted.adapter.base_values().items()}
    (made,) = OnnxBackend(model).generate([made_up_request(model, "d")])
    noise = {n: v + rng.normal(size=v.shape, scale=0.02).astype(np.float32) for n, v in base.items()}
    for parameters, (length, count) in zip((base, made, noise), ((8, 1), (1, 5), (3, 2)), strict=True):
        frames = rng.normal(size=(1, length, model.config.image_dim)).astype(np.float32)
        texts = rng.normal(size=(count, 768)).astype(np.float32)
        options = rng.normal(size=(count, 1 + length, 768)).astype(np.float32)
        mask = torch.ones(1, length, dtype=torch.bool)
        asked = (texts, options) if task == "choice" else (texts,)
        # With a device axis, as in training: the exported graph has none.
        values = {name: torch.tensor(value)[None] for name, value in parameters.items()}
        with torch.no_grad():
            rows = (torch.tensor(each)[None] for each in asked)
            with adapted.use(values) as module:
                wanted = module(torch.tensor(frames), mask, *rows)
        if task != "retrieval":
            graph = tmp_path / {"qa": "answer.onnx", "choice": "choose.onnx"}[task]
            feed = {"frames": frames, "questions": texts, "options": options}
            found, wanted = [run(graph, feed | parameters)], (wanted[0],)
        else:
            found = [
                run(tmp_path / "embed_clips.onnx", {"frames": frames, **parameters}),
                run(tmp_path / "embed_texts.onnx", {"texts": texts, **parameters}),
            ]
            wanted = (wanted[0], wanted[1][0])
        for ours, theirs in zip(found, wanted, strict=True):
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-4, rtol=0)
