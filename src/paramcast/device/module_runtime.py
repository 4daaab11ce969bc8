"""Runtime of an exported module: it maps arrays to arrays, under the base or an update."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from paramcast.artifact.effect import fault, shares_of
from paramcast.artifact.errors import ArtifactError
from paramcast.artifact.read import DeviceArtifact, changed_targets, read_device
from paramcast.artifact.trees import fill
from paramcast.device.arguments import Arrays, check_inputs
from paramcast.device.core import DeviceCore, check_device_id, check_public_key
from paramcast.device.errors import DeviceInputError, NoEffect, ProbeFailed, WrongEffect
from paramcast.device.inputs import Parameters
from paramcast.device.module_graphs import ModuleGraphs
from paramcast.device.noise import UplinkNoise
from paramcast.device.parameters import WhenExpired
from paramcast.device.support import Seen


class ModuleRuntime(DeviceCore):
    """One device with one exported module. Several threads may call every method at once."""

    def __init__(
        self,
        graphs: ModuleGraphs,
        device_id: str,
        store: Path | str | None,
        keys: tuple[str, ...],
        noise: UplinkNoise,
        root: str | None = None,
        when_expired: WhenExpired = "keep",
    ) -> None:
        """Use `ModuleRuntime.load`."""
        self.artifact: DeviceArtifact = graphs.artifact
        self._graphs, self._noise = graphs, noise
        self._last: Arrays | None = None
        empty = {name: np.zeros(shape, np.float32) for name, shape in self.artifact.parameters.items()}
        super().__init__(
            model=self.artifact.model,
            device_id=device_id,
            base=empty,
            feed=graphs.base,
            store=store,
            keys=keys,
            root=root,
            when_expired=when_expired,
        )

    @classmethod
    def load(
        cls,
        folder: Path | str,
        device_id: str,
        store: Path | str | None = None,
        public_key: str | None = None,
        uplink_noise: float = 0.0,
        *,
        root: str | None = None,
        when_expired: WhenExpired = "keep",
    ) -> ModuleRuntime:
        """Start a device with the last package in `store`, if that may run, else with the base model.

        The start needs no network.

        Args:
            folder: The device's half of an artifact, or the artifact.
            device_id: A letter or digit, then up to 127 of letters, digits and `._:@+-`.
            store: Folder for packages and the pinned key, which devices, users and models may share.
            public_key: Hex of the cloud's key; else the manifest's key, else the key pinned in `store`.
            uplink_noise: Standard deviation of the noise that is added to the numbers sent; the features have
                the standard deviation 1.
            root: Hex of the root's key; None for the root that the manifest names, if any. The root must have
                signed the manifest, and only keys that it delegates are trusted.
            when_expired: Parameters to run after the running package or the newest notice has expired: the
                package ("keep"), or the base model ("base").

        Raises:
            ArtifactError: The folder is damaged, or its model does not work.
            DeviceInputError: The id or the key is malformed, or the noise is negative.
        """
        check_device_id(device_id)
        noise = UplinkNoise(uplink_noise)
        check_public_key(public_key)
        check_public_key(root)
        graphs = ModuleGraphs(read_device(folder, root))
        artifact = graphs.artifact
        try:
            outputs = graphs.outputs(artifact.probe, graphs.base)
            graphs.context(artifact.probe)
        except Exception as error:  # onnxruntime's classes have no common base but Exception
            raise ArtifactError(f"{artifact.path}: the base model cannot run: {error}") from error
        if any(np.isnan(value).any() for value in outputs.values() if value.dtype.kind == "f"):
            raise ArtifactError(
                f"{artifact.path}: the base model gives NaN for the example in probe.safetensors"
            )
        given = public_key or artifact.public_key
        keys = () if given is None else (given,)
        return cls(graphs, device_id, store, keys, noise, root or artifact.root, when_expired)

    def for_user(self, user: str) -> ModuleRuntime:
        """Return a runtime for another user of this device.

        The users share the model in memory, the store and the pinned key, but no support set or packages. The
        cloud treats the user as a separate device with the id `device_id:user`.

        Args:
            user: Letters, digits and `._:@+-`.

        Raises:
            DeviceInputError: The user's name is malformed, or is too long together with the device's id.
        """
        device_id = self._user_id(user)
        keys = self._parameters.keys
        return ModuleRuntime(
            self._graphs, device_id, self._store, keys, self._noise, self.root, self._when_expired
        )

    def observe(self, x: Any) -> None:
        """Add N examples to the support set. A request carries U numbers of each example.

        Args:
            x: Inputs as `predict` takes them.

        Raises:
            DeviceInputError: The inputs do not fit the model, or their features are not finite.
        """
        data = check_inputs(x, self.artifact.inputs, self.artifact.arguments)
        features = self._compute(lambda: self._graphs.context(data))
        rows = ((features - self.artifact.mean) @ self.artifact.matrix).astype(np.float32)
        if wrong := np.flatnonzero(~np.isfinite(rows).all(axis=1)).tolist():
            raise DeviceInputError(f"the features of example {wrong[0]} are not finite; look at its inputs")
        for row in rows:
            self._support.add(Seen(self._noise(row)))
        self._last = {name: value[-1:] for name, value in data.items()}

    def predict(self, x: Any) -> Any:
        """Run the module under the present parameters.

        Args:
            x: An array where the module takes one; a tuple of arrays in the order of its arguments, or a
                dictionary by their names, nested as the module takes them; N examples each.

        Returns:
            Arrays in the structure of the module's outputs: an array, a list or a dictionary.

        Raises:
            DeviceInputError: The inputs do not fit the model.
        """
        data = check_inputs(x, self.artifact.inputs, self.artifact.arguments)
        snapshot = self._parameters.current
        graphs: ModuleGraphs = snapshot.graphs or self._graphs
        return fill(self.artifact.structure, self._compute(lambda: graphs.outputs(data, snapshot.feed)))

    def status(self) -> dict[str, Any]:
        """Return `DeviceCore.status` with the artifact's `task` and `adapter`."""
        return {**super().status(), "task": self.artifact.task, "adapter": self.artifact.adapter}

    def _compute(self, run: Any) -> Any:
        try:
            return run()
        except Exception as error:  # onnxruntime's classes have no common base but Exception
            raise DeviceInputError(f"the model cannot run on these inputs: {error}") from error

    def _baked(self, feed: Parameters) -> ModuleGraphs:
        return self._graphs.baked(feed)

    def _try_out(self, parameters: Parameters, effect: bytes | None = None) -> Parameters:
        """Compute the changed targets, and run the module on the last example and on the probe.

        Raises:
            ProbeFailed: The module cannot run, or an output is not finite where the base's output is finite.
            NoEffect: Targets are changed, but no output is.
            WrongEffect: The outputs of the probe are not the outputs that the server has signed.
        """
        changed = changed_targets(self.artifact, parameters)
        for name, value in changed.items():
            if not np.isfinite(value).all():
                raise ProbeFailed(f"the package makes {name} infinite or NaN")
        feed = {target.input: changed[target.name] for target in self.artifact.targets}
        moved = any(not np.array_equal(feed[name], base) for name, base in self._graphs.base.items())
        examples = [self.artifact.probe] if self._last is None else [self._last, self.artifact.probe]
        differs = False
        for data in examples:
            try:
                outputs = self._graphs.outputs(data, feed)
            except Exception as error:  # as above
                raise ProbeFailed(f"the model cannot run with these parameters: {error}") from error
            known = self._graphs.outputs(data, self._graphs.base)
            for name, base in known.items():
                if base.dtype.kind == "f" and not np.isfinite(outputs[name][np.isfinite(base)]).all():
                    raise ProbeFailed(f"with these parameters the output {name} is not finite")
                differs |= not np.array_equal(outputs[name], base, equal_nan=base.dtype.kind == "f")
        if moved and not differs:
            raise NoEffect("the package changes parameters but no output: the graph is not the one it is for")
        if effect is not None and self.artifact.effect is not None:  # the probe came last
            spec, specs = self.artifact.effect, self.artifact.outputs
            found, base_shares = shares_of(spec, outputs, specs), shares_of(spec, known, specs)
            told = fault(spec, self.artifact.probe_tag, effect, found, base_shares)
            if told is not None:
                raise WrongEffect(told)
        return feed
