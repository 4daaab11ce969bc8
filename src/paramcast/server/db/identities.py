"""Identities and their rights: devices' keys, enrolment tokens, operators, and the chain of signing keys."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, String, and_, bindparam, delete, func, insert, or_, select, update

from paramcast.protocol import Endorsement
from paramcast.server.db import events
from paramcast.server.db.errors import StateInputError
from paramcast.server.db.journal import note
from paramcast.server.db.prepared import prepared
from paramcast.server.db.schema import (
    device_keys,
    devices,
    endorsements,
    enrolments,
    feedback,
    operators,
    packages,
)

ROLES = ("viewer", "operator", "admin")
"""Roles in rising order; each has also the rights of the roles before it."""

ROTATION_GRACE_MS = 86_400_000
"""Milliseconds for which a device's old key stays valid: the device may lose power after the server's answer
and before it has stored the new key."""


KEYS_THAT_HOLD = 2
"""Number of valid keys of a device: the newest, and for a limited time the key that named it."""


_KEYS_LOCK = 1_346_454_349  # number of a PostgreSQL advisory lock that nothing else uses


@dataclass(frozen=True)
class Known:
    """Record of an enrolled device.

    Attributes:
        keys: Public keys that are valid now, the newest first; empty if all are revoked.
        signed_at: Unix microseconds; time of the last request that was served.
        spent_until: Unix microseconds up to which the device's rate is used up.
        ended: Public keys that were valid before, the newest first.
    """

    keys: list[str] = field(default_factory=list)
    signed_at: int = 0
    spent_until: int = 0
    ended: list[str] = field(default_factory=list)


def _knowing(_: str, count: int) -> Any:
    names = [bindparam(f"device{place}", type_=String) for place in range(count)]
    return (
        select(
            device_keys.c.device,
            device_keys.c.public_key,
            device_keys.c.ends_at,
            devices.c.signed_at,
            devices.c.spent_until,
        )
        .join(devices, devices.c.id == device_keys.c.device)
        .where(device_keys.c.device.in_(names))
        .order_by(device_keys.c.ends_at.is_(None).desc(), device_keys.c.added_at.desc())
    )


def _spending(_: str) -> Any:
    newer = or_(devices.c.signed_at < bindparam("signed"), devices.c.signed_at > bindparam("latest"))
    one = update(devices).where(devices.c.id == bindparam("device"), newer)
    return one.values(signed_at=bindparam("signed"), spent_until=bindparam("spent")).returning(devices.c.id)


def known(connection: Connection, names: Iterable[str], now_ms: int) -> dict[str, Known]:
    """Return the records of named devices, and of named users' devices, that were ever enrolled.

    This runs one statement for any number of names.
    """
    found: dict[str, Known] = {}
    asked = set(names)
    asked |= {owner for name in asked if (owner := owner_of(name))}
    values = {f"device{place}": name for place, name in enumerate(sorted(asked))}
    if not values:
        return found
    knowing = prepared(_knowing, connection.dialect, len(values))
    for device, public_key, ends_at, signed_at, spent_until in knowing.run(connection, values):
        one = found.setdefault(device, Known([], signed_at, spent_until))
        holds = ends_at is None or ends_at > now_ms
        (one.keys if holds else one.ended).append(public_key)
    return found


def spend(connection: Connection, spent: Mapping[str, Known], latest_us: int) -> set[str]:
    """Record the times of devices' last signatures and their used rates; a time never goes back.

    Args:
        connection: A connection in a transaction.
        spent: Device -> its new record.
        latest_us: Unix microseconds; a later time on record is wrong, and does not count.

    Returns:
        Devices for which a newer request was recorded first, so that the present request must be refused.
    """
    late = set()
    for name, one in sorted(spent.items()):  # the same order in all services prevents deadlocks
        values = {
            "device": name,
            "signed": one.signed_at,
            "spent": one.spent_until,
            "latest": latest_us,
        }
        if not prepared(_spending, connection.dialect).run(connection, values):
            late.add(name)
    return late


def owner_of(name: str) -> str | None:
    """Return the device of a user's name DEVICE:USER, or None if `name` is no user's name."""
    owner, colon, _ = name.partition(":")
    return owner if colon else None


def new_enrolment(connection: Connection, device: str | None, now_ms: int, lifetime_ms: int) -> str:
    """Make a token that enrols one device once; the state keeps only the token's hash."""
    token = secrets.token_urlsafe(24)
    row = {"digest": _digest(token), "device": device, "made_at": now_ms, "expires_at": now_ms + lifetime_ms}
    connection.execute(insert(enrolments).values(row))
    events.keep(connection, "token made", now_ms, {"device": device})
    return token


def waiting_enrolments(connection: Connection, now_ms: int) -> list[tuple[str, str | None, int]]:
    """List the valid tokens: hash, device (None: any new device), end in unix milliseconds."""
    waiting = select(enrolments.c.digest, enrolments.c.device, enrolments.c.expires_at).where(
        enrolments.c.used_at.is_(None), enrolments.c.expires_at > now_ms
    )
    return [(row[0], row[1], row[2]) for row in connection.execute(waiting.order_by(enrolments.c.expires_at))]


def withdraw_enrolment(connection: Connection, digest: str, now_ms: int) -> None:
    """Withdraw the token whose hash begins with `digest`. Raises StateInputError unless exactly one does."""
    found = [one for one, _, _ in waiting_enrolments(connection, now_ms) if one.startswith(digest)]
    if len(digest) < 8 or len(found) != 1:
        raise StateInputError(f"no token, or more than one, begins with {digest}: see paramcast access list")
    ended = update(enrolments).where(enrolments.c.digest == found[0]).values(expires_at=now_ms)
    connection.execute(ended)
    note(connection, "token withdrawn", at=now_ms, token=found[0])


def enrol(connection: Connection, token: str, device: str, public_key: str, now_ms: int) -> None:
    """Use up a token, and make `public_key` the only valid key of `device`.

    A repeated call is safe, because the device may have lost the answer. No request was signed with a new key
    before, so the device's times begin anew. If the name was never enrolled, its numbers begin anew, too:
    others may have used the name in an open service.

    A name that was ever enrolled stays taken, even when it is revoked, and so do the names of its users. A
    token for any device does not enrol such a name.

    Raises:
        StateInputError: If the token is unknown, used, expired or for another device; if it is for any device
            and the name was enrolled before; or if the key is or was in use, except as a valid key of this
            device.
    """
    _hold(connection, device)
    live = select(device_keys.c.public_key).where(
        device_keys.c.device == device,
        or_(device_keys.c.ends_at.is_(None), device_keys.c.ends_at > now_ms),
    )
    held = list(connection.execute(live).scalars())
    if public_key in held and _used_by(connection, token) == device:
        return
    names = [name for name in (device, owner_of(device)) if name]
    taken = select(device_keys.c.device).where(device_keys.c.device.in_(names)).limit(1)
    was_enrolled = connection.execute(taken).first() is not None
    for_it = enrolments.c.device == device
    used = connection.execute(
        update(enrolments)
        .where(
            enrolments.c.digest == _digest(token),
            enrolments.c.used_at.is_(None),
            enrolments.c.expires_at > now_ms,
            for_it if was_enrolled else or_(enrolments.c.device.is_(None), for_it),
        )
        .values(used_at=now_ms, used_by=device)
    ).rowcount
    if not used:
        raise StateInputError(
            "the token is unknown, used, too old or not for this device; ask for a new token, with "
            "the device's name if the device is or was enrolled"
        )
    note(connection, "enrolled", at=now_ms, token=_digest(token), device=device, key=public_key)
    _end_keys(connection, device, now_ms)
    if public_key in held:  # an earlier enrolment succeeded without the device's knowledge
        own = update(device_keys).where(device_keys.c.public_key == public_key)
        connection.execute(own.values(ends_at=None))
        return
    _add_key(connection, device, public_key, now_ms)
    begin = {"signed_at": 0, "spent_until": 0}
    if not was_enrolled:
        reset_numbers(connection, device)
    if not connection.execute(update(devices).where(devices.c.id == device).values(begin)).rowcount:
        row = {"id": device, "sequence": 0, "first_seen_at": now_ms, "last_seen_at": now_ms}
        connection.execute(insert(devices).values(row))


def rotate(connection: Connection, device: str, signed_by: str, public_key: str, now_ms: int) -> None:
    """Give an enrolled device a new key; the former key stays valid for another day. Safe to repeat.

    All other keys of the device end now and are deleted, so that only two keys are valid and on record.

    Raises:
        StateInputError: If the new key is or was in use; or if the request is not signed by the device's
            newest key, because an attacker with an older key must not lock the device out.
    """
    _hold(connection, device)
    newest = select(device_keys.c.public_key).where(
        device_keys.c.device == device, device_keys.c.ends_at.is_(None)
    )
    keys = list(connection.execute(newest).scalars())
    if public_key in keys:
        return
    if signed_by not in keys:
        raise StateInputError("only the device's newest key may name the next key")
    _add_key(connection, device, public_key, now_ms)
    own, others = device_keys.c.device == device, device_keys.c.public_key.not_in([signed_by, public_key])
    connection.execute(delete(device_keys).where(own, others))
    signer, ends_at = device_keys.c.public_key == signed_by, now_ms + ROTATION_GRACE_MS
    connection.execute(update(device_keys).where(signer).values(ends_at=ends_at))
    note(
        connection, "key changed", at=now_ms, device=device, key=public_key, former=signed_by, ends_at=ends_at
    )


def revoke(connection: Connection, device: str, now_ms: int) -> int:
    """Revoke all keys of a device now, and return the number of valid ones.

    The device needs a new token to enrol again.
    """
    note(connection, "device revoked", at=now_ms, device=device)
    return _end_keys(connection, device, now_ms)


def _end_keys(connection: Connection, device: str, now_ms: int) -> int:
    sooner = or_(device_keys.c.ends_at.is_(None), device_keys.c.ends_at > now_ms)
    ended = update(device_keys).where(device_keys.c.device == device, sooner).values(ends_at=now_ms)
    return connection.execute(ended).rowcount


def reset_numbers(connection: Connection, device: str) -> bool:
    """Restart a device's numbers and delete its updates and reports; returns whether the device is known.

    A device with its store reports its last number, and its numbers continue above it.
    """
    connection.execute(delete(packages).where(packages.c.device == device))
    connection.execute(delete(feedback).where(feedback.c.device == device))
    anew = update(devices).where(devices.c.id == device).values(sequence=0)
    return connection.execute(anew).rowcount > 0


def prune_names(connection: Connection, before_ms: int, most: int = 2000) -> int:
    """Delete up to `most` names that were never enrolled and not seen since; returns their number.

    Unsigned requests can create any number of names. A device with a deleted name reports its last number.
    """
    enrolled = select(device_keys.c.device).where(device_keys.c.device == devices.c.id).exists()
    old = select(devices.c.id).where(devices.c.last_seen_at < before_ms, ~enrolled).limit(most)
    return connection.execute(delete(devices).where(devices.c.id.in_(old))).rowcount


def prune_keys(connection: Connection, before_ms: int) -> int:
    """Delete keys that ended before `before_ms` and have a valid successor; returns their number.

    At most the two keys of a device that end last stay, because older versions allowed thousands. A device's
    last key stays in any case.
    """
    order = device_keys.c.ends_at.desc(), device_keys.c.public_key
    place = func.row_number().over(partition_by=device_keys.c.device, order_by=order).label("place")
    ended = select(device_keys, place).where(device_keys.c.ends_at.is_not(None)).subquery()
    holding = select(device_keys.c.device).where(device_keys.c.ends_at.is_(None))
    spare = select(ended.c.public_key).where(
        or_(ended.c.place > KEYS_THAT_HOLD, and_(ended.c.ends_at < before_ms, ended.c.device.in_(holding)))
    )
    return connection.execute(delete(device_keys).where(device_keys.c.public_key.in_(spare))).rowcount


def _hold(connection: Connection, device: str) -> None:
    """Block other transactions from changing the device's keys until this one ends; SQLite does so itself."""
    if connection.dialect.name == "postgresql":  # a new name has no row to lock
        connection.execute(select(func.pg_advisory_xact_lock(_KEYS_LOCK, func.hashtext(device))))
    connection.execute(select(devices.c.id).where(devices.c.id == device).with_for_update())


def _used_by(connection: Connection, token: str) -> str | None:
    """Return the device that has used a token; None if no device has."""
    used = select(enrolments.c.used_by).where(enrolments.c.digest == _digest(token))
    name: str | None = connection.execute(used).scalar()
    return name


def _add_key(connection: Connection, device: str, public_key: str, now_ms: int) -> None:
    taken = select(device_keys.c.device).where(device_keys.c.public_key == public_key)
    if connection.execute(taken).first() is not None:
        raise StateInputError("this key is or was in use; make a new one")
    row = {"public_key": public_key, "device": device, "added_at": now_ms}
    connection.execute(insert(device_keys).values(row))


def grant(connection: Connection, name: str, role: str, now_ms: int, expires_ms: int | None = None) -> str:
    """Make a token with which an operator may use the API until it expires; a former token of the name ends.

    Raises:
        StateInputError: If there is no such role.
    """
    if role not in ROLES:
        raise StateInputError(f"a role is one of {', '.join(ROLES)}")
    token = secrets.token_urlsafe(24)
    connection.execute(delete(operators).where(operators.c.name == name))
    row = {"name": name, "digest": _digest(token), "role": role, "made_at": now_ms, "expires_at": expires_ms}
    connection.execute(insert(operators).values(row))
    about = {"name": name, "digest": row["digest"], "role": role, "expires_at": expires_ms}
    note(connection, "operator granted", at=now_ms, **about)
    return token


def withdraw(connection: Connection, name: str) -> None:
    """End an operator's token. Raises StateInputError if there is no such operator."""
    if not connection.execute(delete(operators).where(operators.c.name == name)).rowcount:
        raise StateInputError(f"there is no operator {name}")
    note(connection, "operator withdrawn", name=name)


@dataclass(frozen=True)
class Granted:
    """An operator; times are unix milliseconds, and `used_at` is accurate to the minute."""

    name: str
    role: str
    made_at: int
    expires_at: int | None
    used_at: int | None


def all_operators(connection: Connection) -> list[Granted]:
    """List the operators, ordered by name."""
    return [_granted(row) for row in connection.execute(select(operators).order_by(operators.c.name))]


def operator_of(connection: Connection, token: str, now_ms: int) -> Granted | None:
    """Return the operator of a token; None if the token is unknown or has expired."""
    row = connection.execute(select(operators).where(operators.c.digest == _digest(token))).first()
    return _granted(row) if row and (row.expires_at is None or row.expires_at > now_ms) else None


def _granted(row: Any) -> Granted:
    return Granted(row.name, row.role, row.made_at, row.expires_at, row.used_at)


def keep_use(connection: Connection, name: str, now_ms: int) -> None:
    """Record the last use of an operator's token."""
    connection.execute(update(operators).where(operators.c.name == name).values(used_at=now_ms))


def add_endorsement(connection: Connection, endorsement: Endorsement, now_ms: int) -> None:
    """Record the endorsement of a new signing key."""
    connection.execute(insert(endorsements).values(**vars(endorsement), made_at=now_ms))
    note(connection, "signing key endorsed", at=now_ms, **vars(endorsement))


def all_endorsements(connection: Connection) -> Sequence[Endorsement]:
    """Return the chain of endorsements, the oldest first."""
    rows: Any = connection.execute(select(endorsements).order_by(endorsements.c.made_at))
    return [Endorsement(row.old, row.new, row.signature) for row in rows]


def _digest(token: str) -> str:
    """Hash a token. Tokens are random and long, so a plain hash reveals nothing."""
    return hashlib.sha256(token.encode()).hexdigest()
