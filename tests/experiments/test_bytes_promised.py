"""What is said of bytes holds for models of the default sizes: 300 up a clip, 600 down, signed."""

from __future__ import annotations

from uuid import UUID

import pytest

from experiments.bytes import DOWN, UP
from paramcast.bench.untrained import made_up_request, untrained_model
from paramcast.protocol import Package, make_key, seal
from paramcast.protocol.quantize import DEFAULT_QUANTIZATION
from paramcast.video.training.serving import OnnxBackend


@pytest.mark.parametrize("task", ["qa", "choice", "retrieval"])
def test_an_adaptation_takes_no_more_bytes_than_is_said(task: str) -> None:
    model = untrained_model("codes", task)
    request = made_up_request(model, str(UUID(int=1)), clips=8)
    assert len(request.encode()) <= 8 * UP
    (tensors,) = OnnxBackend(model).generate([request])
    package = Package(
        request.device, model.sha256(), 10**6, 2 * 10**9, "codes", DEFAULT_QUANTIZATION, tensors
    )
    assert 300 < len(seal(package, make_key())) <= DOWN
