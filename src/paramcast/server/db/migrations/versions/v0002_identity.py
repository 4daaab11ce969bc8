"""Adds keys of devices and times of their signatures, operators with roles, endorsements of signing keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Upgrade from the previous schema."""
    for name in ("signed_at", "spent_until"):
        op.add_column("devices", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    op.create_table(
        "device_keys",
        sa.Column("public_key", sa.String(64), primary_key=True),
        sa.Column("device", sa.String(128), nullable=False),
        sa.Column("added_at", sa.BigInteger, nullable=False),
        sa.Column("ends_at", sa.BigInteger),
    )
    op.create_index("ix_device_keys_device", "device_keys", ["device"])
    op.create_table(
        "enrolments",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("device", sa.String(128)),
        sa.Column("made_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("used_at", sa.BigInteger),
        sa.Column("used_by", sa.String(128)),
    )
    op.create_table(
        "operators",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("made_at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("digest", name="uq_operators_digest"),
    )
    op.create_table(
        "endorsements",
        sa.Column("old", sa.String(64), primary_key=True),
        sa.Column("new", sa.String(64), nullable=False),
        sa.Column("signature", sa.String(128), nullable=False),
        sa.Column("made_at", sa.BigInteger, nullable=False),
    )
