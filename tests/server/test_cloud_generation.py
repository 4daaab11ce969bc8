"""What is generated together on ONNX Runtime is what torch generates for each device alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from paramcast.bench.untrained import made_up_request, untrained_model
from paramcast.hypernet import ContextInputs
from paramcast.hypernet.forms import FORMS
from paramcast.video.training.serving import OnnxBackend


@pytest.mark.parametrize("task", ["qa", "retrieval"])
@pytest.mark.parametrize("form", FORMS)
def test_a_batch_of_unlike_devices_is_each_of_them_alone(form: str, task: str) -> None:
    model = untrained_model(form, task)
    # The batch norm has seen devices: with its first statistics it would be the identity.
    torch.nn.init.normal_(model.adaptor.fda.norm.running_mean)  # type: ignore[arg-type]
    torch.nn.init.uniform_(model.adaptor.fda.norm.running_var, 0.5, 2)  # type: ignore[arg-type]
    requests = [made_up_request(model, "d", clips=clips, seed=clips) for clips in (8, 1, 3)]
    requests.append(
        dataclasses.replace(
            requests[0], queries=np.empty((0, 128), np.float32), clip_of_query=np.empty(0, np.int64)
        )
    )
    made = OnnxBackend(model).generate(requests)
    assert len(made) == len(requests)
    for request, tensors in zip(requests, made, strict=True):
        anchors, queries = (torch.from_numpy(rows)[None] for rows in (request.anchors, request.queries))
        masks = [torch.ones(rows.shape[:2], dtype=torch.bool) for rows in (anchors, queries)]
        with torch.inference_mode():
            wanted, _ = model.adaptor.eval()(ContextInputs(anchors, masks[0], queries, masks[1]))
        assert tensors.keys() == wanted.keys()
        for name, values in tensors.items():
            np.testing.assert_allclose(values, wanted[name][0].numpy(), atol=1e-5, rtol=1e-4)
            assert values.dtype == np.float32
