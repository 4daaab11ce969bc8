"""What a device's install has to have: nothing of the cloud, of training, or of video."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BLOCKED = "torch", "fastapi", "starlette", "uvicorn", "pydantic", "onnx", "PIL", "av", "cv2", "scipy", "httpx"

SCRIPT = """
import sys
for name in {blocked!r}:
    sys.modules[name] = None
import numpy as np
import paramcast.cli, paramcast.protocol
from paramcast.device import CloudClient, CloudError, DeviceRuntime
runtime = DeviceRuntime.load({bundle!r}, "cam-1")
frames = np.zeros((2, 8, 8, 3), np.uint8)
runtime.observe(frames, ["who is there"])
assert len(runtime.request().encode()) > 0
print(runtime.answer(frames, ["who is there"])[0].text)
import importlib.metadata, re
packages = importlib.metadata.packages_distributions()
loaded = [name.split(".")[0] for name in list(sys.modules) if sys.modules[name]]
used = {{owner for name in loaded for owner in packages.get(name, [])}}
print(*sorted(used))
"""

# The base dependencies and what they import themselves.
ALLOWED = {
    "paramcast",
    "numpy",
    "onnxruntime",
    "tokenizers",
    "safetensors",
    "pynacl",
    "cffi",
    "httpx2",
    "httpcore2",
    "click",
    "tqdm",
    "anyio",
    "idna",
    "truststore",
    "typing-extensions",
    "h11",
    "certifi",
    "sniffio",
    "packaging",
    "setuptools",
    "flatbuffers",
    "protobuf",
}


def test_a_device_runs_without_the_extras(bundle: Path) -> None:
    script = SCRIPT.format(blocked=BLOCKED, bundle=str(bundle))
    result = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    answer, used = result.stdout.splitlines()
    assert answer
    assert {name.lower().replace("_", "-") for name in used.split()} <= ALLOWED


@pytest.mark.parametrize(
    "module", ["paramcast.protocol", "paramcast.device", "paramcast.cli.device", "paramcast.cli.serve"]
)
def test_no_import_of_the_rest(module: str) -> None:
    code = f"import sys, {module}; print(*[n for n in sys.modules if n.startswith('paramcast.')])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    folders = {name.split(".")[1] for name in result.stdout.split()}
    assert folders <= {"protocol", "artifact", "device", "cli", "errors", "files", "installed", "pictures"}
