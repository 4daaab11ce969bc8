"""Cost of adaptation on a device: an answer compared with the base model's, a swap, a cold start, memory.

An *answer* is all that a user waits for: from 8 frames as pixels and a question as a string to an answer as a
string, both trunks included. The *head* is the part that adaptation changes: from features to the answer,
without the trunks. Both are compared with the same model exported with its weights as constants and without
parameter inputs. *Baked* is adapted, with the tensors of the update made constants on the device.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from paramcast.artifact.onnx_file import bake
from paramcast.bench.fine_tuning import fine_tuning_rows, observation_row
from paramcast.bench.rows import in_turns, row, time_row
from paramcast.bench.untrained import FRAMES, made_up_request, untrained_model
from paramcast.device import DeviceRuntime
from paramcast.files import write_json
from paramcast.hypernet.forms import FORMS
from paramcast.protocol import Package, SigningKey, make_key, public_key_hex, seal
from paramcast.protocol.quantize import DEFAULT_QUANTIZATION
from paramcast.video.encoders import image_encoder
from paramcast.video.encoders.base import onnx_session
from paramcast.video.training.export import export_bundle, write_graphs
from paramcast.video.training.model import TrainedModel
from paramcast.video.training.serving import OnnxBackend

DEVICE = "bench"
QUESTION = "what is the man in the red shirt doing?"
STARTS = 3
STARTED = "codes"
"""Form for which starts, and swaps compared with fine-tuning, are measured."""
Call = Callable[[], object]
_COLD = """
import sys
from pathlib import Path
import numpy as np
from paramcast.device import DeviceRuntime
from paramcast.artifact.onnx_file import bake
runtime = DeviceRuntime.load(sys.argv[1], "bench", store=sys.argv[3] or None)
if sys.argv[4]:
    runtime.bake()
runtime.answer(np.zeros((1, 224, 224, 3), np.uint8), [sys.argv[2]])
# Not by getrusage: its peak counts the parent's memory from before the exec.
status = Path("/proc/self/status")
lines = status.read_text().splitlines() if status.exists() else []
print(next((line.split()[1] for line in lines if line.startswith("VmHWM")), 0))
"""


def bench_device(seed: int, rounds: int = 30) -> list[dict[str, Any]]:
    """Time one device on models of the default sizes, one for each form, all with the same base.

    Args:
        seed: Seed of the made-up features and parameters.
        rounds: Timed answers of each model; shorter operations are timed more often.
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
            swap = _swap(runtime, made, key, 4 * rounds + 6)
            swaps.append(time_row(f"swap_{form}", in_turns(form, {f"swap_{form}": swap}, 3 * rounds)))
            answers[f"answer_adapted_{form}"] = _answer(runtime, frames)
            heads[f"head_adapted_{form}"] = _head(bundle / "answer.onnx", model, made, seed)
            baked = _baked(runtime, made, key)
            answers[f"answer_baked_{form}"] = _answer(baked, frames)
            graph = bake((bundle / "answer.onnx").read_bytes(), made)
            heads[f"head_baked_{form}"] = _head(graph, model, {}, seed)
            if form == STARTED:
                store = Path(scratch) / "store"
                keeping = _swap(DeviceRuntime.load(bundle, DEVICE, store), made, key, rounds + 3)
                swaps.append(
                    time_row(f"swap_kept_{form}", in_turns("keeping", {f"swap_kept_{form}": keeping}, rounds))
                )
                others = [
                    *_start_rows(bundle, store),
                    observation_row(runtime, frames, QUESTION, rounds),
                    *fine_tuning_rows(model, swap, seed, rounds),
                ]
        plain = _plain_bundle(bundle, model, Path(scratch) / "plain")
        answers["answer_base"] = _answer(DeviceRuntime.load(plain, DEVICE), frames)
        heads["head_base"] = _head(plain / "answer.onnx", model, {}, seed)
        whole = in_turns("answers", answers, rounds)
        alone = in_turns("heads", heads, 20 * rounds)
        return [
            time_row("answer_base", whole),
            *(time_row(name, whole, "answer_base") for name in answers if name != "answer_base"),
            time_row("head_base", alone),
            *(time_row(name, alone, "head_base") for name in heads if name != "head_base"),
            *swaps,
            *others,
            _trunk_row(frames[:1], rounds),
        ]


def _answer(runtime: DeviceRuntime, frames: np.ndarray) -> Call:
    """An answer about frames that the device sees for the first time."""

    def call() -> None:
        runtime.clear_cache()
        runtime.answer(frames, [QUESTION])

    return call


def _head(graph: Path | bytes, model: TrainedModel, made: dict[str, np.ndarray], seed: int) -> Call:
    """Return a call that answers one question about given features, on one thread since it is short."""
    config, rng = model.config, np.random.default_rng(seed)
    feed = made | {
        "frames": rng.normal(size=(1, config.frames, config.image_dim)).astype(np.float32),
        "questions": rng.normal(size=(1, config.text_dim)).astype(np.float32),
    }
    session = onnx_session(graph, threads=1)
    return lambda: session.run(None, feed)


def _plain_bundle(bundle: Path, model: TrainedModel, out: Path) -> Path:
    """Copy a bundle, with only the base model in its graph; a runtime loads it like any other bundle."""
    shutil.copytree(bundle, out)
    write_graphs(model, out, adaptable=False)
    save_file({}, out / "base.safetensors")
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    manifest["parameters"] = []
    for name in ("answer.onnx", "base.safetensors"):
        manifest["files"][name] = hashlib.sha256((out / name).read_bytes()).hexdigest()
    write_json(out / "manifest.json", manifest)
    return out


def _swap(runtime: DeviceRuntime, made: dict[str, np.ndarray], key: SigningKey, times: int) -> Call:
    """Return a call that checks a sealed update, tries it and applies it; it can be called `times` times.

    It leaves the device adapted.
    """
    ready = deque(_sealed(runtime, number + 1, made, key) for number in range(times))
    return lambda: runtime.apply(ready.popleft())


def _sealed(runtime: DeviceRuntime, sequence: int, made: dict[str, np.ndarray], key: SigningKey) -> bytes:
    bundle, expires = runtime.bundle, int(time.time()) + 3600
    how = bundle.form, DEFAULT_QUANTIZATION
    return seal(Package(runtime.device_id, bundle.model, sequence, expires, *how, made), key)


def _baked(runtime: DeviceRuntime, made: dict[str, np.ndarray], key: SigningKey) -> DeviceRuntime:
    """Return another user of the device, with its parameters as constants of the model and shared trunks."""
    baked = runtime.for_user("baked")
    baked.apply(_sealed(baked, 1, made, key))
    baked.bake()
    return baked


def _start_rows(bundle: Path, store: Path) -> list[dict[str, Any]]:
    """Measure a new process: the time from its start to its first answer, and its peak of memory."""
    kinds = {"": ("", ""), "_adapted": (str(store), ""), "_baked": (str(store), "baked")}
    rows = []
    for kind, arguments in kinds.items():
        starts, peaks = [], []
        for _ in range(STARTS):
            start = time.perf_counter()
            command = [sys.executable, "-c", _COLD, str(bundle), QUESTION, *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            starts.append(1e3 * (time.perf_counter() - start))
            peaks.append(int(done.stdout) * 1024 / 1e6)
        rows += [
            row(f"cold_start{kind}", float(np.median(starts)), "ms"),
            row(f"peak_mb{kind}", max(peaks), "MB"),
        ]
    return rows


def _trunk_row(frame: np.ndarray, rounds: int) -> dict[str, Any]:
    """Time one frame through the int8 trunk, compared with the fp32 trunk."""
    fp32, int8 = image_encoder("efficientnet-lite0"), image_encoder("efficientnet-lite0-int8")
    calls: dict[str, Call] = {"trunk_fp32": lambda: fp32(frame), "trunk_int8": lambda: int8(frame)}
    return time_row("trunk_int8", in_turns("trunks", calls, rounds), "trunk_fp32")
