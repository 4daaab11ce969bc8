"""The models in service: those of some artifacts, or those that were published, each loaded once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from paramcast.artifact.server_read import OnnxHypernetwork
from paramcast.errors import InputError
from paramcast.protocol import AdaptRequest
from paramcast.server.bundles import BrowserBundle
from paramcast.server.db import Database, published
from paramcast.server.db.published import ModelVersion, serves
from paramcast.server.store import ModelStore

_log = logging.getLogger(__name__)


class AdaptBackend(Protocol):
    """What the service needs of a model. `generate` is never called by two threads at once.

    Attributes:
        model: sha256 of the base model, 64 lower-case hex digits.
        form: The generator form.
        task: What the model does, in its maker's words.
        parameters: The shape of every tensor that `generate` makes, by name.
        uplink_dims: Columns of a request's anchors and of its queries.
    """

    model: str
    form: str
    task: str
    parameters: Mapping[str, tuple[int, ...]]
    uplink_dims: tuple[int, int]

    def generate(self, requests: list[AdaptRequest]) -> list[dict[str, np.ndarray]]:
        """One table of float32 tensors for each request, in order; a request may have no queries."""
        ...


class WrongModelError(InputError):
    """The device runs another base model than those that this service adapts."""


@dataclass(frozen=True, eq=False)
class Served:
    """A model in service.

    Attributes:
        backend: Makes its updates.
        version: None where it was not published but given as a folder.
        bundle: What a browser loads; None where the artifact has no half for devices.
    """

    backend: AdaptBackend
    version: ModelVersion | None = None
    bundle: BrowserBundle | None = None

    @property
    def number(self) -> int | None:
        """The version's number."""
        return self.version.version if self.version else None

    @classmethod
    def open(cls, artifact: Path | str) -> Served:
        """The model of an artifact: its folder `server`, and its folder `device` if there is one.

        Raises:
            InputError: If the folder is no artifact, a file in it is damaged, or its halves do not belong
                together.
        """
        backend, device = OnnxHypernetwork.open(artifact), Path(artifact) / "device"
        bundle = BrowserBundle.open(device) if device.is_dir() else None
        if bundle is not None and bundle.model != backend.model:
            raise InputError(
                f"{artifact}: device is of base model {bundle.model[:12]}, server of {backend.model[:12]}; "
                "export the artifact again"
            )
        return cls(backend, bundle=bundle)


class Models:
    """Which model serves which device. `refresh` swaps the whole table at once; requests under way finish."""

    def __init__(self, serving: Sequence[Served]) -> None:
        """Serve these, the newest first."""
        self._serving = tuple(serving)

    @classmethod
    def of_artifacts(cls, artifacts: Sequence[Path | str]) -> Models:
        """The models of these artifacts.

        Raises:
            InputError: If one of them cannot be served, or two are of the same base model.
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
        """All that are in service, the newest first."""
        return self._serving

    def pick(self, model: str, device: str) -> Served:
        """The model for a device that runs base model `model`.

        Raises:
            WrongModelError: There is none.
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
        """The newest that serves all devices of `model`, or of any where `model` is None or not served."""
        whole = [
            served.backend for served in self._serving if not served.version or served.version.share == 100
        ]
        return next((backend for backend in whole if backend.model == model), whole[0] if whole else None)

    def refresh(self) -> None:
        """Look again for what is in service."""


class PublishedModels(Models):
    """Those that `paramcast model publish` has put into the state."""

    def __init__(
        self, database: Database, store: ModelStore, load: Callable[[Path], Served] = Served.open
    ) -> None:
        """Load what is in service now.

        Args:
            database: Says what is in service.
            store: Holds the files.
            load: Opens a model's folder.

        Raises:
            InputError: If a model's files are damaged or missing.
        """
        super().__init__(())
        self._database, self._store, self._load = database, store, load
        self._take(self._wanted())

    def refresh(self) -> None:
        """Take up what was published or withdrawn since; a model that cannot be loaded changes nothing.

        Raises:
            StateError: If the state cannot be read.
        """
        wanted = self._wanted()
        if wanted != [served.version for served in self._serving]:
            try:
                self._take(wanted)
            except Exception as error:  # whatever a loader may raise, what works goes on
                _log.error("models: what is in service stays as it is: %s", error)

    def _wanted(self) -> list[ModelVersion]:
        with self._database.reading() as connection:
            return published.in_service(connection)

    def _take(self, wanted: Sequence[ModelVersion]) -> None:
        loaded = {served.version.digest: served for served in self._serving if served.version}
        for version in wanted:
            if version.digest not in loaded:
                loaded[version.digest] = self._load(self._store.path(version.digest))
                _log.info("models: version %d of base model %s is loaded", version.version, version.model)
        self._serving = tuple(replace(loaded[version.digest], version=version) for version in wanted)
