"""Effect of an update on the probe: a few quantized outputs that a server signs and a device compares.

An update that passes every other rule may still have no effect, or a wrong effect: if the graph is outdated,
if a runtime drops an input, or if names were mixed up. No runtime reports this. So the server runs every
update on the artifact's probe and sends the result in the update. A device accepts the update only if its own
result is the same.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from paramcast.artifact.errors import ArtifactError
from paramcast.artifact.manifest import MODEL_FILE, EffectSpec, TensorSpec
from paramcast.artifact.read import DeviceArtifact, changed_targets, read_device
from paramcast.protocol.quantize import Float32

MOST = 16
"""Largest number of output values that are signed."""
TOLERANCE = 1e-3
"""Largest difference between engines, as a share of an output's size. Graph and module differ by at most a
tenth of this."""
SLOW_S = 0.05
"""Seconds. If a run of the model takes longer, the server does not run it for every update."""

_STEPS = 4096
"""Quantization steps for an output's size."""
_TOP = 32767
_TAG = 4
"""Number of bytes that identify the probe."""
_NOISE = 1e-6
"""Relative noise that engines are expected to add. Outputs that change much by it are not compared."""

_log = logging.getLogger(__name__)


class Effects:
    """Runs updates on the probe of an artifact, as a device would. Safe to use from several threads."""

    def __init__(self, artifact: DeviceArtifact, spec: EffectSpec) -> None:
        """Open the graph and run the base.

        Raises:
            ArtifactError: ONNX Runtime refuses the graph, or the run fails.
        """
        self._artifact, self._spec = artifact, spec
        try:
            self._session = _session(artifact.files[MODEL_FILE])
            self._asked = {node.name for node in self._session.get_inputs()}
            began = time.perf_counter()
            self.outputs(artifact.base)
            self.seconds = time.perf_counter() - began
        except Exception as error:  # onnxruntime's classes have no common base but Exception
            raise ArtifactError(f"{artifact.path}: the base model cannot run: {error}") from error

    @classmethod
    def open(cls, folder: Path | str) -> Effects | None:
        """Open the folder `device` of an artifact; None if no effect can be signed, or the model is too slow.

        Raises:
            ArtifactError: The folder is damaged, or its model does not work.
        """
        artifact = read_device(folder)
        if artifact.effect is None:
            return None
        effects = cls(artifact, artifact.effect)
        if effects.seconds > SLOW_S:
            _log.warning(
                "%s: the model takes %.0f ms on its probe; updates are sent without a signed effect",
                artifact.path,
                1000 * effects.seconds,
            )
            return None
        return effects

    def of(self, values: Mapping[str, Float32]) -> bytes | None:
        """Return the effect of an update, to be signed; None if an output is not finite.

        Devices refuse an update with such an output anyway.

        Args:
            values: Tensors of the update, rounded by the quantization as a device has them.
        """
        outputs = self.outputs(changed_targets(self._artifact, values))
        shares = shares_of(self._spec, outputs, self._artifact.outputs)
        if shares is None:
            return None
        return self._artifact.probe_tag + np.rint(shares * _STEPS).astype("<i2").tobytes()

    def outputs(self, targets: Mapping[str, Float32]) -> dict[str, np.ndarray]:
        """Run the module on the probe under changed targets."""
        feed: dict[str, Any] = dict(self._artifact.probe)
        feed |= {target.input: targets[target.name] for target in self._artifact.targets}
        names = [spec.name for spec in self._artifact.outputs]
        found = self._session.run(names, {name: value for name, value in feed.items() if name in self._asked})
        return dict(zip(names, found, strict=True))


def shares_of(
    spec: EffectSpec, outputs: Mapping[str, np.ndarray], specs: Iterable[TensorSpec]
) -> Float32 | None:
    """Return the chosen values of the outputs as shares of their sizes, clipped to the range of 16 bits.

    Args:
        spec: The chosen values.
        outputs: Outputs of the model, by name.
        specs: The outputs in the manifest's order.

    Returns:
        The shares (N,) float32; None if a value is missing or not finite.
    """
    flat = [outputs[each.name].ravel() for each in specs if _is_float(each)]
    picked = np.full(len(spec.positions), np.nan, np.float32)
    for place, position in enumerate(spec.positions):
        for part in flat:
            if position < part.size:
                picked[place] = part[position]
                break
            position -= part.size
    if not np.isfinite(picked).all():
        return None
    return np.clip(picked / np.asarray(spec.scales, np.float32), -_TOP / _STEPS, _TOP / _STEPS)


def fault(
    spec: EffectSpec, tag: bytes, effect: bytes, found: Float32 | None, base: Float32 | None
) -> str | None:
    """Return what is wrong with the outputs of a device; None if nothing is wrong.

    Args:
        spec: The values that are compared.
        tag: Tag of the device's probe. If the server ran another probe, nothing is compared.
        effect: The effect that the server has signed.
        found: Shares of the device's outputs under the update.
        base: Shares of the device's outputs without the update.
    """
    if effect[:_TAG] != tag:
        return None
    if len(effect) != _TAG + 2 * len(spec.positions):
        return f"the update tells other outputs of the example than the artifact's {len(spec.positions)}"
    wanted = np.frombuffer(effect[_TAG:], "<i2").astype(np.float32) / _STEPS
    limit = spec.tolerance * max(1.0, float(np.abs(wanted).max())) + 0.5 / _STEPS
    off = np.inf if found is None else float(np.abs(found - wanted).max())
    if off <= limit:
        return None
    if found is not None and base is not None and float(np.abs(found - base).max()) <= limit:
        return "the model gives the base's outputs under the update: the runtime does not use its parameters"
    return (
        f"an output of the example is off by {off:.2g} of its size from what the server has found: the graph "
        "or its constants are not those that the update is for"
    )


def choose(artifact: DeviceArtifact, updates: Sequence[Mapping[str, Float32]]) -> EffectSpec | None:
    """Choose the output values to sign: values that change under updates, but not by the noise of engines.

    Args:
        artifact: The written folder.
        updates: Tensors of some updates.

    Returns:
        The chosen values; None if no output is suitable, for example because the outputs are sorted.
    """
    blank = EffectSpec((), (), TOLERANCE)
    effects = Effects(artifact, blank)
    plain = effects.outputs(artifact.base)
    base = _numbers(plain, artifact.outputs)
    under = [changed_targets(artifact, values) for values in updates]
    found = [_numbers(effects.outputs(targets), artifact.outputs) for targets in under]
    noisy = [_numbers(effects.outputs(_with_noise(targets)), artifact.outputs) for targets in under]
    if any(len(each) != len(base) for each in (*found, *noisy)):
        return None
    sizes = _sizes([plain[s.name].size for s in artifact.outputs if _is_float(s)], [base, *found])
    fit = np.isfinite([base, *found, *noisy]).all(0) & (sizes > 0)
    with np.errstate(invalid="ignore"):
        moves = np.max([np.abs(each - base) for each in found], 0)
        noise = np.max([np.abs(a - b) for a, b in zip(found, noisy, strict=True)], 0)
        places = np.flatnonzero(fit & (moves > 4 * TOLERANCE * sizes) & (noise < TOLERANCE / 4 * sizes))
    if not len(places):
        return None
    places = places[np.unique(np.linspace(0, len(places) - 1, MOST).round().astype(int))]
    return EffectSpec(tuple(map(int, places)), tuple(float(f"{sizes[p]:.6g}") for p in places), TOLERANCE)


def _numbers(outputs: Mapping[str, np.ndarray], specs: Iterable[TensorSpec]) -> Float32:
    """Return all values of the floating point outputs in the manifest's order: (N,) float32."""
    flat = [outputs[spec.name].ravel() for spec in specs if _is_float(spec)]
    return np.concatenate(flat).astype(np.float32) if flat else np.empty(0, np.float32)


def _is_float(spec: TensorSpec) -> bool:
    return np.dtype(spec.dtype).kind == "f"


def _sizes(lengths: Sequence[int], runs: Sequence[Float32]) -> Float32:
    """Return for each value (N,) the largest magnitude of its output in all runs; outputs have `lengths`."""
    highest = np.max([np.where(np.isfinite(each), np.abs(each), 0) for each in runs], 0)
    parts = np.split(highest, np.cumsum(lengths)[:-1])
    return np.concatenate([np.full_like(part, part.max(initial=0)) for part in parts])


def _with_noise(targets: Mapping[str, Float32]) -> dict[str, Float32]:
    draws = np.random.default_rng(0)
    return {
        name: np.asarray(value * (1 + _NOISE * draws.standard_normal(value.shape)), np.float32)
        for name, value in targets.items()
    }


def _session(graph: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
