"""The models in service: of given artifacts, or published ones. Each is loaded once."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from paramcast.artifact.effect import Effects
from paramcast.artifact.errors import ArtifactError
from paramcast.artifact.read import FORMAT
from paramcast.artifact.server_read import OnnxHypernetwork
from paramcast.errors import InputError
from paramcast.protocol.quantize import Float32, rounded
from paramcast.server.backend import AdaptBackend
from paramcast.server.bundles import BrowserBundle
from paramcast.server.db import Database, published
from paramcast.server.db.published import ModelVersion, serves
from paramcast.server.store import ModelStore
from paramcast.server.trial import check_backend

_log = logging.getLogger(__name__)


class WrongModelError(InputError):
    """The device runs a base model that this service does not adapt."""


@dataclass(frozen=True, eq=False)
class Served:
    """A model in service.

    Attributes:
        backend: Generates the updates.
        version: The published version; None if the model was given as a folder.
        bundle: The files for browsers; None if the artifact has no folder `device`.
        effects: Runs updates on the artifact's probe; None if updates carry no signed effect.
    """

    backend: AdaptBackend
    version: ModelVersion | None = None
    bundle: BrowserBundle | None = None
    effects: Effects | None = None

    def effect_of(self, tensors: Mapping[str, Float32], quantization: str) -> bytes | None:
        """Compute the effect of an update on the probe, after quantization; None if it is unknown."""
        if self.effects is None or not all(np.isfinite(values).all() for values in tensors.values()):
            return None
        return self.effects.of(rounded(tensors, quantization))

    @property
    def number(self) -> int | None:
        """Number of the published version; None if the model was given as a folder."""
        return self.version.version if self.version else None

    @classmethod
    def open(cls, artifact: Path | str) -> Served:
        """Open the model of an artifact: its folder `server`, and its folder `device` if there is one.

        Raises:
            InputError: If the folder is no artifact, a file in it is damaged, or `server` and `device` do not
                belong together.
        """
        backend, device = OnnxHypernetwork.open(artifact), Path(artifact) / "device"
        bundle = BrowserBundle.open(device) if device.is_dir() else None
        if bundle is not None and bundle.model != backend.model:
            raise InputError(
                f"{artifact}: device/ is of base model {bundle.model[:12]}, server/ of "
                f"{backend.model[:12]}; export the artifact again"
            )
        module = bundle is not None and json.loads(bundle.manifest)["format"] == FORMAT
        try:
            effects = Effects.open(device) if module else None
        except ArtifactError as error:
            raise InputError(str(error)) from error
        return cls(backend, bundle=bundle, effects=effects)


class Models:
    """Chooses the model for a device. `refresh` replaces all models at once; running requests finish.

    Attributes:
        store: The store of the published models; None if the models were given as folders.
    """

    def __init__(self, serving: Sequence[Served]) -> None:
        """Serve these models, the newest first."""
        self._serving = tuple(serving)
        self.store: ModelStore | None = None

    @classmethod
    def of_artifacts(cls, artifacts: Sequence[Path | str]) -> Models:
        """Open the models of artifacts.

        Raises:
            InputError: If an artifact cannot be served, or two artifacts have the same base model.
        """
        serving = [Served.open(artifact) for artifact in artifacts]
        found: dict[str, Path | str] = {}
        for artifact, served in zip(artifacts, serving, strict=True):
            other = found.setdefault(served.backend.model, artifact)
            if other != artifact:
                raise InputError(
                    f"{other} and {artifact} are of the same base model: serve one of them, "
                    "or publish both: paramcast model publish"
                )
        return cls(serving)

    @property
    def serving(self) -> tuple[Served, ...]:
        """All models in service, the newest first."""
        return self._serving

    def pick(self, model: str, device: str) -> Served:
        """Choose the model for a device that runs base model `model`.

        Raises:
            WrongModelError: No model serves this base model.
        """
        serving = self._serving
        for served in serving:
            if served.backend.model == model and (not served.version or serves(served.version, device)):
                return served
        here = ", ".join(sorted({served.backend.model for served in serving})) or "none yet"
        raise WrongModelError(
            f"the device runs base model {model}, this service adapts {here}; "
            "install the artifact of a model served here"
        )

    def described(self, model: str | None) -> AdaptBackend | None:
        """Return the newest model that serves all devices of `model`, else of any base model, else None."""
        whole = [
            served.backend for served in self._serving if not served.version or served.version.share == 100
        ]
        return next((backend for backend in whole if backend.model == model), whole[0] if whole else None)

    def refresh(self) -> None:
        """Load the models that are in service now."""


class PublishedModels(Models):
    """The models that `paramcast model publish` has put into the state.

    Attributes:
        problems: sha256 of the files of a version that cannot be served -> why.
    """

    def __init__(
        self, database: Database, store: ModelStore, load: Callable[[Path], Served] = Served.open
    ) -> None:
        """Load the models that are in service now.

        Args:
            database: The state, which lists the versions in service.
            store: Holds the files.
            load: Opens a model's folder.

        Raises:
            InputError: If a model's files are damaged or missing, and no other version serves its devices.
        """
        super().__init__(())
        self._database, self._store, self._load = database, store, load
        self.store = store
        self._taken: list[ModelVersion] = []
        self._again = math.inf
        self.problems: dict[str, str] = {}
        wanted = self._wanted()
        self._take(wanted)
        here = {served.backend.model for served in self._serving if _serves_all(served)}
        for version in wanted:
            if version.digest in self.problems and version.model not in here:
                raise InputError(
                    f"version {version.version} cannot be served: {self.problems[version.digest]}; "
                    "restore its files, or: paramcast model rollback"
                )

    def refresh(self) -> None:
        """Apply all publications and withdrawals since the last call.

        A version that cannot be served is left out, and tried again a minute later. If no other version
        serves all devices of its base model, the models that served them before stay in service.

        Raises:
            StateError: If the state cannot be read.
        """
        wanted = self._wanted()
        if wanted != self._taken or time.monotonic() >= self._again:
            self._take(wanted)

    def _wanted(self) -> list[ModelVersion]:
        with self._database.reading() as connection:
            return published.in_service(connection)

    def _take(self, wanted: list[ModelVersion]) -> None:
        now = {served.version.digest: served for served in self._serving if served.version}
        serving: list[Served] = []
        problems: dict[str, str] = {}
        for version in wanted:
            if version.digest not in now and version.digest not in problems:
                try:
                    now[version.digest] = self._loaded(version)
                except Exception as error:  # after any error the working models stay
                    problems[version.digest] = str(error)
                    _log.error("models: version %d is left out: %s", version.version, error)
            if version.digest in now:
                serving.append(replace(now[version.digest], version=version))
        for model in {version.model for version in wanted if version.digest in problems}:
            if not any(one.backend.model == model and _serves_all(one) for one in serving):
                # No new version serves all devices: the former models stay, after the new canaries.
                serving += [one for one in self._serving if one.backend.model == model and one not in serving]
        self._serving, self._taken = tuple(serving), wanted
        self._again = time.monotonic() + _RETRY_S if problems else math.inf
        self.problems = problems

    def _loaded(self, version: ModelVersion) -> Served:
        served = self._load(self._store.path(version.digest))
        check_backend(served.backend)
        _log.info("models: version %d of base model %s is loaded", version.version, version.model)
        return served


_RETRY_S = 60.0
"""Seconds after which a version that could not be served is tried again."""


def _serves_all(served: Served) -> bool:
    return served.version is None or served.version.share == published.WHOLE
