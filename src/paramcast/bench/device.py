"""What adaptation costs a device: an answer against the base model's, a swap, a cold start, memory.

An *answer* is what a user waits for: from 8 frames as pixels and a question as a string to an answer as a
string, both trunks included. The *head* is the part of it that adaptation touches: the same from features,
without the trunks. Both are compared with the same model exported with its weights as constants and without
parameter inputs.
"""

from __future__ import annotations

import hashlib
import json
import shutil
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

from paramcast.bench.rows import in_turns, row, time_row
from paramcast.bench.untrained import FRAMES, made_up_request, untrained_model
from paramcast.device import DeviceRuntime
from paramcast.encoders import image_encoder
from paramcast.encoders.base import onnx_session
from paramcast.files import write_json
from paramcast.models.edits import FORMS
from paramcast.training.export import export_bundle, write_graphs
from paramcast.training.model import TrainedModel
from paramcast.training.serving import OnnxBackend
from paramcast.wire import Package, SigningKey, make_key, public_key_hex, seal

DEVICE = "bench"
QUESTION = "what is the man in the red shirt doing?"
STARTS = 3
Call = Callable[[], object]
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


def bench_device(seed: int, rounds: int = 30) -> list[dict[str, Any]]:
    """Time one device on models of the default sizes, one for each form, all with the same base.

    Args:
        seed: Of the made-up features and parameters.
        rounds: Timed answers of each; shorter things are timed more often.
    """
    key, rng = make_key(), np.random.default_rng(seed)
    frames = rng.integers(0, 256, (FRAMES, 224, 224, 3), np.uint8)
    answers: dict[str, Call] = {}
    heads: dict[str, Call] = {}
    swaps: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for form in FORMS:
            model = untrained_model(form, seed=seed)
            bundle = export_bundle(model, Path(scratch) / form, public_key_hex(key))
            (made,) = OnnxBackend(model).generate([made_up_request(model, DEVICE, seed=seed)])
            runtime = DeviceRuntime.load(bundle, DEVICE)
            swaps.append(_swap_row(runtime, model, made, key, 3 * rounds))  # and leaves it adapted
            answers[f"answer_adapted_{form}"] = _answer(runtime, frames)
            heads[f"head_adapted_{form}"] = _head(bundle, model, made, seed)
        plain = _plain_bundle(bundle, model, Path(scratch) / "plain")
        answers["answer_base"] = _answer(DeviceRuntime.load(plain, DEVICE), frames)
        heads["head_base"] = _head(plain, model, {}, seed)
        whole = in_turns("answers", answers, rounds)
        alone = in_turns("heads", heads, 20 * rounds)
        return [
            time_row("answer_base", whole),
            *(time_row(f"answer_adapted_{form}", whole, "answer_base") for form in FORMS),
            time_row("head_base", alone),
            *(time_row(f"head_adapted_{form}", alone, "head_base") for form in FORMS),
            *swaps,
            *_start_rows(bundle),
            _trunk_row(frames[:1], rounds),
        ]


def _answer(runtime: DeviceRuntime, frames: np.ndarray) -> Call:
    return lambda: runtime.answer(frames, [QUESTION])


def _head(bundle: Path, model: TrainedModel, made: dict[str, np.ndarray], seed: int) -> Call:
    """One question about a clip whose features are given, on one thread: it is too short for more."""
    config, rng = model.config, np.random.default_rng(seed)
    feed = made | {
        "frames": rng.normal(size=(1, config.frames, config.image_dim)).astype(np.float32),
        "questions": rng.normal(size=(1, config.text_dim)).astype(np.float32),
    }
    session = onnx_session(bundle / "answer.onnx", threads=1)
    return lambda: session.run(None, feed)


def _plain_bundle(bundle: Path, model: TrainedModel, out: Path) -> Path:
    """The bundle with the base model alone in its graph, which a runtime loads like any other."""
    shutil.copytree(bundle, out)
    write_graphs(model, out, adaptable=False)
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"]["answer.onnx"] = hashlib.sha256((out / "answer.onnx").read_bytes()).hexdigest()
    write_json(out / "manifest.json", manifest)
    return out


def _swap_row(
    runtime: DeviceRuntime, model: TrainedModel, made: dict[str, np.ndarray], key: SigningKey, rounds: int
) -> dict[str, Any]:
    """Checking a sealed package, trying it, and taking it up."""
    name = f"swap_{model.config.form}"
    expires = int(time.time()) + 3600
    first = Package(DEVICE, model.sha256(), 1, expires, model.config.form, "int8", made)
    sequences = count(1)
    sealed = (seal(replace(first, sequence=number), key) for number in sequences)
    ready = iter([next(sealed) for _ in range(rounds + 3)])
    return time_row(name, in_turns(name, {name: lambda: runtime.apply(next(ready))}, rounds))


def _start_rows(bundle: Path) -> list[dict[str, Any]]:
    """A fresh process, from its start to its first answer."""
    starts, peaks = [], []
    for _ in range(STARTS):
        start = time.perf_counter()
        command = [sys.executable, "-c", _COLD, str(bundle), QUESTION]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        starts.append(1e3 * (time.perf_counter() - start))
        peaks.append(int(done.stdout) * 1024 / 1e6)
    return [row("cold_start", float(np.median(starts)), "ms"), row("peak_mb", max(peaks), "MB")]


def _trunk_row(frame: np.ndarray, rounds: int) -> dict[str, Any]:
    """One frame through the int8 trunk, against the fp32 one."""
    fp32, int8 = image_encoder("efficientnet-lite0"), image_encoder("efficientnet-lite0-int8")
    calls: dict[str, Call] = {"trunk_fp32": lambda: fp32(frame), "trunk_int8": lambda: int8(frame)}
    return time_row("trunk_int8", in_turns("trunks", calls, rounds), "trunk_fp32")
