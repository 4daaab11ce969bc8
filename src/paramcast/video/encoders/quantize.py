"""Static 8-bit quantization of an image encoder, calibrated on generated pictures: no data needed."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

CALIBRATION_FRAMES = 48
SIDE = 224


def calibration_frames(count: int = CALIBRATION_FRAMES, seed: int = 0) -> np.ndarray:
    """Make pictures with the statistics of photographs: (count, 224, 224, 3) uint8.

    Colored 1/f noise (the spectrum of natural scenes) of many contrasts and tints gives texture and smooth
    light. Ellipses and bars drawn over it give edges.
    """
    rng = np.random.default_rng(seed)
    return np.stack([_picture(rng) for _ in range(count)])


def _picture(rng: np.random.Generator) -> np.ndarray:
    steps = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None])
    steps[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.normal(size=(3, SIDE, SIDE))) / steps ** rng.uniform(0.7, 1.6)
    noise = np.fft.irfft2(spectrum, (SIDE, SIDE))
    noise /= noise.std()
    mixed = np.tensordot(np.eye(3) * rng.uniform(0.1, 0.5) + rng.uniform(0.2, 0.6, (3, 1)), noise, 1)
    picture = rng.uniform(40, 200, (3, 1, 1)) + rng.uniform(15, 70) * mixed
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for _ in range(rng.integers(0, 12)):
        y, x = rng.uniform(0, SIDE, 2)
        height, width = rng.uniform(5, 70, 2)
        power = rng.choice([2, 20])  # 2: an ellipse, 20: almost a rectangle
        inside = ((rows - y) / height) ** power + ((columns - x) / width) ** power < 1
        light = rng.uniform(-0.5, 0.5) * (rows + columns - y - x)[inside]
        picture[:, inside] = rng.uniform(0, 255, (3, 1)) + light
    return np.clip(picture, 0, 255).astype(np.uint8).transpose(1, 2, 0)


class _CalibrationReader:
    """Reader that gives the calibration frames to ONNX Runtime in small batches."""

    def __init__(self) -> None:
        self._batches = iter(np.split(calibration_frames(), CALIBRATION_FRAMES // 4))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch (4, 224, 224, 3) as a feed, None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {"frames": batch}


def quantize_graph(source: Path, target: Path, in_float: Sequence[str]) -> None:
    """Write the graph at `source` (input `frames`) to `target` with 8-bit convolutions.

    Weights are int8 with one scale per channel, activations are uint8. The preprocessing stays unchanged:
    features are compared between a device and the server, so both must see the same pixels.

    Args:
        source: path of a float32 graph.
        target: path of the quantized graph.
        in_float: names of nodes that stay in float32.

    Raises:
        ImportError: `onnx` is not installed.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quant_pre_process, quantize_static

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_optimization=True, skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            _CalibrationReader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Clip", "Add"],
            nodes_to_exclude=list(in_float),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
