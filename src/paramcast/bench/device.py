"""What adaptation costs a device: an answer against the base model's, a swap, a cold start, memory."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from paramcast.bench.rows import in_turns, row
from paramcast.bench.untrained import made_up_request, untrained_model
from paramcast.device import DeviceRuntime
from paramcast.encoders import image_encoder
from paramcast.models.edits import FORMS
from paramcast.training.export import export_bundle, write_graphs
from paramcast.training.model import TrainedModel
from paramcast.training.serving import OnnxBackend
from paramcast.wire import Package, make_key, public_key_hex, seal

BASE = "answer_base"
QUESTION = "what is the man in the red shirt doing?"
STARTS = 3
_COLD = """
import sys
from pathlib import Path
import numpy as np
from paramcast.device import DeviceRuntime
runtime = DeviceRuntime.load(sys.argv[1], "bench")
runtime.answer(np.zeros((1, 224, 224, 3), np.uint8), [sys.argv[2]])
# Not by getrusage: its peak counts the parent's memory from before the exec.
status = Path("/proc/self/status")
lines = status.read_text().splitlines() if status.exists() else []
print(next((line.split()[1] for line in lines if line.startswith("VmHWM")), 0))
"""


def bench_device(seed: int, rounds: int = 400) -> list[dict[str, Any]]:
    """Time one device on models of the default sizes.

    An answer without the trunk is one question about a clip of 8 frames whose features are given. Base is the
    same model with its weights as constants and no parameter inputs.

    Args:
        seed: Of the made-up features and parameters.
        rounds: Timed calls of each.
    """
    key = make_key()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for form in FORMS:
            model = untrained_model(form, seed=seed)
            rows += _answer_rows(model, Path(scratch), seed, rounds)
            bundle = export_bundle(model, Path(scratch) / f"bundle-{form}", public_key_hex(key))
            rows.append(row(f"swap_{form}", _swap_ms(model, bundle, key, max(5, rounds // 10)), "ms"))
        rows += _whole_rows(bundle, seed, max(3, rounds // 20))
    return [*rows, _trunk_row(seed, max(3, rounds // 10))]


def _answer_rows(model: TrainedModel, scratch: Path, seed: int, rounds: int) -> list[dict[str, Any]]:
    """Adapted against base; the base row comes with the first form."""
    form, rng = model.config.form, np.random.default_rng(seed)
    frames = rng.normal(size=(1, model.config.frames, model.config.image_dim)).astype(np.float32)
    data = {"frames": frames, "questions": rng.normal(size=(1, model.config.text_dim)).astype(np.float32)}
    (made,) = OnnxBackend(model).generate([made_up_request(model, "bench", seed=seed)])
    name = f"answer_adapted_{form}"
    calls = {
        BASE: _answerer(model, scratch / f"base-{form}", data, adaptable=False),
        name: _answerer(model, scratch / f"adapted-{form}", data | made, adaptable=True),
    }
    times = in_turns(calls, rounds)
    adapted = row(name, times[name], "ms", BASE, times[name] / times[BASE])
    return [row(BASE, times[BASE], "ms"), adapted] if form == FORMS[0] else [adapted]


def _answerer(
    model: TrainedModel, folder: Path, feed: dict[str, np.ndarray], *, adaptable: bool
) -> Callable[[], object]:
    folder.mkdir()
    write_graphs(model, folder, adaptable=adaptable)
    session = _session(folder / "answer.onnx")
    return lambda: session.run(None, feed)


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _swap_ms(model: TrainedModel, bundle: Path, key: Any, rounds: int) -> float:
    """Checking a sealed package, trying it, and taking it up."""
    runtime = DeviceRuntime.load(bundle, "bench")
    (made,) = OnnxBackend(model).generate([made_up_request(model, "bench")])
    expires = int(time.time()) + 3600
    first = Package("bench", model.sha256(), 1, expires, model.config.form, "int8", made)
    sequences = count(1)
    sealed = iter([seal(replace(first, sequence=next(sequences)), key) for _ in range(rounds + 3)])
    return in_turns({"swap": lambda: runtime.apply(next(sealed))}, rounds)["swap"]


def _whole_rows(bundle: Path, seed: int, rounds: int) -> list[dict[str, Any]]:
    """Pictures to answer with the trunks; and a fresh process, from its start to its first answer."""
    runtime = DeviceRuntime.load(bundle, "bench")
    frames = np.random.default_rng(seed).integers(0, 256, (8, 224, 224, 3), np.uint8)
    full = in_turns({"full": lambda: runtime.answer(frames, [QUESTION])}, rounds)["full"]
    starts, peaks = [], []
    for _ in range(STARTS):
        start = time.perf_counter()
        command = [sys.executable, "-c", _COLD, str(bundle), QUESTION]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        starts.append(1e3 * (time.perf_counter() - start))
        peaks.append(int(done.stdout) * 1024 / 1e6)
    return [
        row("answer_full_pipeline", full, "ms"),
        row("cold_start", float(np.median(starts)), "ms"),
        row("peak_mb", max(peaks), "MB"),
    ]


def _trunk_row(seed: int, rounds: int) -> dict[str, Any]:
    """One frame through the int8 trunk, against the fp32 one."""
    frame = np.random.default_rng(seed).integers(0, 256, (1, 224, 224, 3), np.uint8)
    fp32, int8 = image_encoder("efficientnet-lite0"), image_encoder("efficientnet-lite0-int8")
    times = in_turns({"fp32": lambda: fp32(frame), "int8": lambda: int8(frame)}, rounds)
    against = f"trunk_fp32 ({times['fp32']:.1f} ms)"
    return row("trunk_int8", times["int8"], "ms", against, times["int8"] / times["fp32"])
