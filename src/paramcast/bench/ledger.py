"""Cost ledger of adaptation, measured on the real service and a real device."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from paramcast.bench.macs import count_macs
from paramcast.bench.processes import cloud_service, finish_device, start_device
from paramcast.device.bundle import GRAPHS
from paramcast.protocol import AdaptRequest
from paramcast.video.encoders import image_encoder, text_encoder
from paramcast.video.shifts.fleet import Fleet
from paramcast.video.training.artifact import export_artifact
from paramcast.video.training.model import TrainedModel
from paramcast.video.training.serving import OnnxBackend

REUSE = (1, 10, 100, 1000)
"""Numbers of queries that one adaptation may serve."""

_TIMED_REQUESTS = 20
_TEXT_TOKENS = 12  # tokens of the text for counting the trunk's work, about as many as in a question


def runs_on_device(model: TrainedModel) -> bool:
    """Check that devices support the task, and that both trunks have graphs that a device can run."""
    trunks = image_encoder(model.config.image_encoder), text_encoder(model.config.text_encoder)
    return model.config.task in GRAPHS and all(trunk.onnx_path is not None for trunk in trunks)


def measure_costs(
    model: TrainedModel, data: Path, fleet: Fleet, support_sizes: Sequence[int], folder: Path
) -> dict[int, dict[str, Any]]:
    """Run one test device against the model's service, and record its costs.

    Args:
        model: Trained.
        data: The collection's folder.
        fleet: Its first device is run, with the largest number of support clips.
        support_sizes: One ledger for each size; they differ in the bytes sent and in the cloud's time.
        folder: For files that are not needed later.

    Returns:
        Support size -> ledger: `labels` used; `bytes_up` and `bytes_down` of one adaptation (bodies);
        `bytes_per_query` by reuse; `device_ms`, p50 of an answer with the trunk, and `device_peak_mb`, of the
        device's process; `device_macs` of an answer; `cloud_ms`, p50 of making one device's parameters;
        `leaves_device`, the kinds of data that the cloud receives.

    Raises:
        ProcessError: The service or the device failed.
    """
    artifact = export_artifact(model, folder / "artifact")
    figures = _run_device(artifact, data, fleet, max(support_sizes), folder)
    backend, macs = OnnxBackend(model), answer_macs(artifact / "device", model)
    ledgers = {}
    for support in support_sizes:
        request = _request(fleet.devices[0].id, backend, support)
        up, down = len(request.encode()), figures["bytes_down"]
        ledgers[support] = {
            "labels": 0,
            "bytes_up": up,
            "bytes_down": down,
            "bytes_per_query": {str(reuse): round((up + down) / reuse, 2) for reuse in REUSE},
            "device_ms": round(figures["own"]["answer_ms"], 3),
            "cloud_ms": round(_generation_ms(backend, request), 3),
            "device_peak_mb": round(figures["peak_mb"], 1),
            "device_macs": macs,
            "leaves_device": ["features"],
        }
    return ledgers


def answer_macs(bundle: Path, model: TrainedModel) -> int:
    """Count the multiply-accumulates of one answer about a new clip: both trunks and the task's graphs.

    Args:
        bundle: The exported bundle.
        model: The model that was exported.
    """
    config = model.config
    frames, text = (
        np.zeros((config.frames, config.image_dim), np.float32),
        np.zeros(config.text_dim, np.float32),
    )
    tokens = {name: np.ones((1, _TEXT_TOKENS), np.int64) for name in ("input_ids", "attention_mask")}
    macs = config.frames * count_macs(bundle / "image.onnx", {"frames": np.zeros((1, 224, 224, 3), np.uint8)})
    texts = 1 + model.task.options  # every option is a text, like the question
    macs += texts * count_macs(bundle / "text.onnx", tokens)
    inputs = load_file(bundle / "base.safetensors") | {
        "frames": frames[None],
        "questions": text[None],
        "options": np.broadcast_to(text, (1, model.task.options, len(text))),
        "texts": text[None],
    }
    return macs + sum(count_macs(bundle / graph, inputs) for graph in GRAPHS[config.task])


def _run_device(artifact: Path, data: Path, fleet: Fleet, support: int, folder: Path) -> Mapping[str, Any]:
    """Run the fleet's first device, alone with its service, and return its measurements."""
    device = fleet.devices[0].id
    fleet.save(folder / "fleet.json")
    figures = folder / f"{device}.json"
    with cloud_service(artifact, folder) as url:
        process = start_device(artifact, url, data, device, folder / "fleet.json", support, figures)
        return finish_device(process, figures)


def _request(device: str, backend: OnnxBackend, support: int) -> AdaptRequest:
    """Make a request of `support` clips, with an anchor and a mean query each.

    Its size does not depend on the values.
    """
    rng = np.random.default_rng(0)
    anchors, queries = (rng.standard_normal((support, dim), np.float32) for dim in backend.uplink_dims)
    return AdaptRequest(device, backend.model, 0, anchors, queries, np.arange(support))


def _generation_ms(backend: OnnxBackend, request: AdaptRequest) -> float:
    """Measure the median milliseconds of making the parameters of one device."""
    times = []
    backend.generate([request])  # the first request of a shape is slower
    for _ in range(_TIMED_REQUESTS):
        start = time.perf_counter()
        backend.generate([request])
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))
