"""Who may ask what: devices' keys, tokens to enrol with, operators, and the chain of signing keys."""

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
"""Each may do what the ones before it may."""

ROTATION_GRACE_MS = 86_400_000
"""For so long a device's old key still holds: it may lose its power between the cloud's word and its disk."""


KEYS_THAT_HOLD = 2
"""Of one device at a time: the newest, and for a while the one that named it."""


_KEYS_LOCK = 1_346_454_349  # of PostgreSQL's advisory locks: any number that others do not use


@dataclass(frozen=True)
class Known:
    """What the state knows of an enrolled device.

    Attributes:
        keys: Public keys that hold now, the newest first; none if all are revoked.
        signed_at: Unix microseconds: the time of its last request that was served.
        spent_until: Unix microseconds up to which its rate is used up.
        ended: Public keys that held once, the newest first.
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
    """Those of the devices, and of the devices whose users they are, that have ever been enrolled.

    One statement, whatever their number.
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
    """Keep when devices signed last, and what of their rate is used up; never an earlier time.

    Args:
        connection: In a transaction.
        spent: What they are to be kept at.
        latest_us: A time on record that is later than this is wrong, and does not count.

    Returns:
        Devices for which another request was first: that which was to be let in is not the newest any more.
    """
    late = set()
    for name, one in sorted(spent.items()):  # in one order everywhere, so that nobody waits in a circle
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
    """The device whose user `name` is, DEVICE:USER, or None if it is no user's."""
    owner, colon, _ = name.partition(":")
    return owner if colon else None


def new_enrolment(connection: Connection, device: str | None, now_ms: int, lifetime_ms: int) -> str:
    """A token that enrols one device, once; the state keeps its hash only."""
    token = secrets.token_urlsafe(24)
    row = {"digest": _digest(token), "device": device, "made_at": now_ms, "expires_at": now_ms + lifetime_ms}
    connection.execute(insert(enrolments).values(row))
    events.keep(connection, "token made", now_ms, {"device": device})
    return token


def waiting_enrolments(connection: Connection, now_ms: int) -> list[tuple[str, str | None, int]]:
    """Tokens that may still be used: hash, for which device (None: whoever comes), until when."""
    waiting = select(enrolments.c.digest, enrolments.c.device, enrolments.c.expires_at).where(
        enrolments.c.used_at.is_(None), enrolments.c.expires_at > now_ms
    )
    return [(row[0], row[1], row[2]) for row in connection.execute(waiting.order_by(enrolments.c.expires_at))]


def withdraw_enrolment(connection: Connection, digest: str, now_ms: int) -> None:
    """End the token whose hash begins with `digest`. Raises StateInputError if that is not one."""
    found = [one for one, _, _ in waiting_enrolments(connection, now_ms) if one.startswith(digest)]
    if len(digest) < 8 or len(found) != 1:
        raise StateInputError(f"no single token waits that begins with {digest}: see paramcast access list")
    ended = update(enrolments).where(enrolments.c.digest == found[0]).values(expires_at=now_ms)
    connection.execute(ended)
    note(connection, "token withdrawn", at=now_ms, token=found[0])


def enrol(connection: Connection, token: str, device: str, public_key: str, now_ms: int) -> None:
    """Use up a token, and give `device` its key: the only one from now on.

    Safe to repeat: the device may have lost the answer. What a new key signs was never signed before, so that
    its times begin anew. A name that was never enrolled is rid of what strangers made of it in an open
    service: its numbers begin anew.

    A name that was ever enrolled stays taken, also when it is revoked, and with it the names of its users: a
    token for whoever comes does not give it.

    Raises:
        StateInputError: If the token is not one, is used or too old, or is for another device; or it is for
            whoever comes, and the device is enrolled already; or the key is or was in use, but not as the
            device's own that still holds.
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
            "the token is unknown, used, too old or not for this device; ask for a new one, in the device's "
            "name if it is or was enrolled"
        )
    note(connection, "enrolled", at=now_ms, token=_digest(token), device=device, key=public_key)
    _end_keys(connection, device, now_ms)
    if public_key in held:  # an enrolment before, of which the device does not know that it succeeded
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
    """Give an enrolled device a new key; the one before holds for another day. Safe to repeat.

    All others of its keys end now and are forgotten: however often a device changes its key, two hold, and
    two are on record.

    Raises:
        StateInputError: If the key is another device's, or was revoked; or it is not the device's newest
            key that asks: who has found an older one must not lock the device out.
    """
    _hold(connection, device)
    newest = select(device_keys.c.public_key).where(
        device_keys.c.device == device, device_keys.c.ends_at.is_(None)
    )
    keys = list(connection.execute(newest).scalars())
    if public_key in keys:
        return
    if signed_by not in keys:
        raise StateInputError("only the device's newest key may name the next one")
    _add_key(connection, device, public_key, now_ms)
    own, others = device_keys.c.device == device, device_keys.c.public_key.not_in([signed_by, public_key])
    connection.execute(delete(device_keys).where(own, others))
    signer, ends_at = device_keys.c.public_key == signed_by, now_ms + ROTATION_GRACE_MS
    connection.execute(update(device_keys).where(signer).values(ends_at=ends_at))
    note(
        connection, "key changed", at=now_ms, device=device, key=public_key, former=signed_by, ends_at=ends_at
    )


def revoke(connection: Connection, device: str, now_ms: int) -> int:
    """End all keys of a device now; how many held. It may only come back with a new token."""
    note(connection, "device revoked", at=now_ms, device=device)
    return _end_keys(connection, device, now_ms)


def _end_keys(connection: Connection, device: str, now_ms: int) -> int:
    sooner = or_(device_keys.c.ends_at.is_(None), device_keys.c.ends_at > now_ms)
    ended = update(device_keys).where(device_keys.c.device == device, sooner).values(ends_at=now_ms)
    return connection.execute(ended).rowcount


def reset_numbers(connection: Connection, device: str) -> bool:
    """Have a device's numbers begin anew, and forget its packages and reports; whether it is known.

    A device that has its store reports what it ran, and goes on above that.
    """
    connection.execute(delete(packages).where(packages.c.device == device))
    connection.execute(delete(feedback).where(feedback.c.device == device))
    anew = update(devices).where(devices.c.id == device).values(sequence=0)
    return connection.execute(anew).rowcount > 0


def prune_names(connection: Connection, before_ms: int, most: int = 2000) -> int:
    """Forget up to `most` names that were never enrolled and not seen since; how many.

    Whoever can ask unsigned can make up names without end. A device of that name reports its own numbers.
    """
    enrolled = select(device_keys.c.device).where(device_keys.c.device == devices.c.id).exists()
    old = select(devices.c.id).where(devices.c.last_seen_at < before_ms, ~enrolled).limit(most)
    return connection.execute(delete(devices).where(devices.c.id.in_(old))).rowcount


def prune_keys(connection: Connection, before_ms: int) -> int:
    """Forget keys that ended before then and have a successor; how many. A device's last key stays.

    Of keys that end later, the two that end last stay: older versions let a device have thousands.
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
    """Let no other transaction change the device's keys until this one ends; SQLite does so by itself."""
    if connection.dialect.name == "postgresql":  # a name that is new has no row that could be locked
        connection.execute(select(func.pg_advisory_xact_lock(_KEYS_LOCK, func.hashtext(device))))
    connection.execute(select(devices.c.id).where(devices.c.id == device).with_for_update())


def _used_by(connection: Connection, token: str) -> str | None:
    """The device that has used a token, if any has."""
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
    """A token with which an operator may use the API until it expires; one that the name had before ends.

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
    """An operator; times are unix milliseconds, and `used_at` is true to the minute."""

    name: str
    role: str
    made_at: int
    expires_at: int | None
    used_at: int | None


def all_operators(connection: Connection) -> list[Granted]:
    """The operators, by name."""
    return [_granted(row) for row in connection.execute(select(operators).order_by(operators.c.name))]


def operator_of(connection: Connection, token: str, now_ms: int) -> Granted | None:
    """The operator whose token it is, if it has not expired."""
    row = connection.execute(select(operators).where(operators.c.digest == _digest(token))).first()
    return _granted(row) if row and (row.expires_at is None or row.expires_at > now_ms) else None


def _granted(row: Any) -> Granted:
    return Granted(row.name, row.role, row.made_at, row.expires_at, row.used_at)


def keep_use(connection: Connection, name: str, now_ms: int) -> None:
    """Keep when an operator's token was used last."""
    connection.execute(update(operators).where(operators.c.name == name).values(used_at=now_ms))


def add_endorsement(connection: Connection, endorsement: Endorsement, now_ms: int) -> None:
    """Keep that a signing key has a successor."""
    connection.execute(insert(endorsements).values(**vars(endorsement), made_at=now_ms))
    note(connection, "signing key endorsed", at=now_ms, **vars(endorsement))


def all_endorsements(connection: Connection) -> Sequence[Endorsement]:
    """The chain of signing keys, the oldest first."""
    rows: Any = connection.execute(select(endorsements).order_by(endorsements.c.made_at))
    return [Endorsement(row.old, row.new, row.signature) for row in rows]


def _digest(token: str) -> str:
    """Tokens are random and long, so that a plain hash tells nothing of them."""
    return hashlib.sha256(token.encode()).hexdigest()
