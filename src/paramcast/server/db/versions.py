"""Recorded results of each version of a model: updates, bytes, latency, and the gains that devices report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, func, select

from paramcast.server.db import published
from paramcast.server.db.errors import StateInputError
from paramcast.server.db.gains import Gain, reports_by_version
from paramcast.server.db.published import ModelVersion
from paramcast.server.db.schema import packages

Standing = Literal["serving", "replaced", "withdrawn", "folder"]
"""`replaced`: a newer version serves all devices; `folder`: given to the service as a folder."""


@dataclass(frozen=True)
class VersionRecord:
    """A version and its recorded results.

    Attributes:
        version: Number of the version; None if it was not published.
        model: sha256 of the base model.
        form: Name of the adapter.
        task: The user's name for the task of the model; None if it was not published.
        share: Percent of devices that it serves; None if it was not published.
        standing: Whether the version is in service.
        published_at: Unix milliseconds.
        withdrawn_at: Unix milliseconds.
        packages: Number of issued updates.
        devices: Number of devices that got these updates.
        bytes_up: Mean of the requests' bytes; None if no sizes are known.
        bytes_down: Mean of the updates' bytes.
        latency_ms: Mean time from the request's last byte to the signed update.
        applied: Number of devices that reported an applied update.
        refused: Number of devices that reported an update that was not applied.
        gain: Gain over the devices that report gains; the value of a device is its mean.
    """

    version: int | None
    model: str
    form: str
    task: str | None
    share: int | None
    standing: Standing
    published_at: int | None
    withdrawn_at: int | None
    packages: int
    devices: int
    bytes_up: float | None
    bytes_down: float | None
    latency_ms: float | None
    applied: int
    refused: int
    gain: Gain | None


@dataclass(frozen=True)
class Comparison:
    """Two versions; `difference` is the second gain minus the first, or None if one has no interval."""

    first: VersionRecord
    second: VersionRecord
    difference: Gain | None


def version_records(connection: Connection) -> list[VersionRecord]:
    """List all published versions, the newest first, then the models that were served from folders."""
    issued = {(row.model, row.version): row for row in connection.execute(_ISSUED)}
    reports = reports_by_version(connection)
    serving = {version.version for version in published.in_service(connection)}
    known = [(version.model, version.version, version) for version in published.all_versions(connection)]
    folders = [(row.model, None, None) for (_, number), row in issued.items() if number is None]
    found: list[VersionRecord] = []
    for model, number, version in [*known, *folders]:
        row = issued.get((model, number))
        gain, applied, refused = reports.get((model, number), (None, 0, 0))
        found.append(
            VersionRecord(
                version=number,
                model=model,
                form=version.form if version else str(row and row.form),
                task=version.task if version else None,
                share=version.share if version else None,
                standing=_standing(version, number in serving),
                published_at=version.published_at if version else None,
                withdrawn_at=version.withdrawn_at if version else None,
                packages=row.packages if row else 0,
                devices=row.devices if row else 0,
                bytes_up=_number(row and row.bytes_up),
                bytes_down=_number(row and row.bytes_down),
                latency_ms=_number(row and row.latency_us / 1000),
                applied=applied,
                refused=refused,
                gain=gain,
            )
        )
    return found


def compare(connection: Connection, first: int, second: int) -> Comparison:
    """Compare two published versions.

    Raises:
        StateInputError: If there is no such version.
    """
    records = {record.version: record for record in version_records(connection)}
    for number in (first, second):
        if number not in records:
            raise StateInputError(f"there is no version {number}")
    one, other = records[first], records[second]
    return Comparison(one, other, other.gain.minus(one.gain) if one.gain and other.gain else None)


def _standing(version: ModelVersion | None, serves: bool) -> Standing:
    if version is None:
        return "folder"
    if version.withdrawn_at is not None:
        return "withdrawn"
    return "serving" if serves else "replaced"


def _number(value: Any) -> float | None:
    """Convert a value to float, because PostgreSQL's means of whole numbers are decimals."""
    return None if value is None else float(value)


_ISSUED = select(
    packages.c.model,
    packages.c.version,
    func.max(packages.c.form).label("form"),
    func.count().label("packages"),
    func.count(packages.c.device.distinct()).label("devices"),
    func.avg(packages.c.request_bytes).label("bytes_up"),
    func.avg(packages.c.bytes).label("bytes_down"),
    func.avg(packages.c.latency_us).label("latency_us"),
).group_by(packages.c.model, packages.c.version)
