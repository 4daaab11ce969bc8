"""Present tables of the server's state. `migrations` makes them; a test checks that both agree.

Times are unix milliseconds. The tables hold no parameters and no secrets in the clear. The only values from
features are two rounded numbers for each update: its place on the fleet's map.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

devices = Table(
    "devices",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("sequence", BigInteger, nullable=False),  # the highest number given to or reported by the device
    Column("first_seen_at", BigInteger, nullable=False),
    Column("last_seen_at", BigInteger, nullable=False),
    # Unix microseconds by the device's clock; requests with this or an earlier time may not be served again.
    Column("signed_at", BigInteger, nullable=False, server_default="0"),
    # Unix microseconds up to which its requests have used up its rate.
    Column("spent_until", BigInteger, nullable=False, server_default="0"),
    # Base model and place of the newest update; null: no update yet, or it is older than these columns.
    Column("model", String(64)),
    Column("x", Integer),  # place of its context on the fleet's map: `paramcast.server.places`
    Column("y", Integer),
)

device_keys = Table(
    "device_keys",
    metadata,
    Column("public_key", String(64), primary_key=True),
    Column("device", String(128), nullable=False, index=True),
    Column("added_at", BigInteger, nullable=False),
    Column("ends_at", BigInteger),  # time from which the key is revoked; null: it is valid
)

enrolments = Table(
    "enrolments",
    metadata,
    Column("digest", String(64), primary_key=True),  # sha256 of the token
    Column("device", String(128)),  # device that may use it; null: any new device
    Column("made_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("used_at", BigInteger),
    Column("used_by", String(128)),
)

operators = Table(
    "operators",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),  # sha256 of the token
    Column("role", String(16), nullable=False),
    Column("made_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),  # null: never, for tokens that are older than this column
    Column("used_at", BigInteger),  # accurate to the minute
)

events = Table(
    "events",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("who", String(200), nullable=False),
    Column("what", String(64), nullable=False),
    Column("device", String(128), index=True),
    Column("about", String(1000), nullable=False),  # JSON
)

endorsements = Table(
    "endorsements",
    metadata,
    Column("old", String(64), primary_key=True),  # public keys, hex
    Column("new", String(64), nullable=False),
    Column("signature", String(128), nullable=False),
    Column("made_at", BigInteger, nullable=False),
)

models = Table(
    "models",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=True),
    Column("model", String(64), nullable=False, index=True),  # sha256 of the base model
    Column("digest", String(64), nullable=False),  # of the files; names their folder in the model store
    Column("form", String(32), nullable=False),
    Column("task", String(32), nullable=False),
    Column("share", Integer, nullable=False),  # percent of devices, 1..100
    Column("published_at", BigInteger, nullable=False),
    Column("withdrawn_at", BigInteger),
    sqlite_autoincrement=True,  # otherwise the number of a removed version would be reused
)

recalls = Table(
    "recalls",
    metadata,
    Column("model", String(64), primary_key=True),  # sha256 of the base model
    Column("number", BigInteger, nullable=False),  # grows with every change; orders the notices
    Column("since", BigInteger, nullable=False),  # updates that were issued earlier are recalled
    Column("to_base", Boolean, nullable=False),
)

packages = Table(
    "packages",
    metadata,
    Column("device", String(128), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("model", String(64), nullable=False),
    Column("version", Integer, ForeignKey("models.version")),  # null: served from a folder
    Column("form", String(32), nullable=False),
    Column("context", String(32), nullable=False),  # keyed hash of the device and its features, hex
    Column("clips", Integer, nullable=False),
    Column("queries", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("latency_us", Integer, nullable=False),  # from the request's last byte to the signed update
    Column("issued_at", BigInteger, nullable=False, index=True),
    Column("expires_at", BigInteger, nullable=False),
    Column("request_bytes", Integer),  # null for updates that are older than this column
    Column("x", Integer),
    Column("y", Integer),
    PrimaryKeyConstraint("device", "sequence"),  # the same number twice would be an error
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("device", String(128), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("applied", Boolean, nullable=False),
    Column("gain", Float),  # percentage points, as the device measured it
    Column("reason", String(300)),  # why it was not applied
    Column("received_at", BigInteger, nullable=False, index=True),
    Index("ix_feedback_device_sequence", "device", "sequence"),
)
