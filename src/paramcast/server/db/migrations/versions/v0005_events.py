"""Adds the log of acts, and the expiry of operators' tokens."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Upgrade from the previous schema. Older tokens stay without an expiry."""
    for name in ("expires_at", "used_at"):
        op.add_column("operators", sa.Column(name, sa.BigInteger))
    op.create_table(
        "events",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("who", sa.String(200), nullable=False),
        sa.Column("what", sa.String(64), nullable=False),
        sa.Column("device", sa.String(128)),
        sa.Column("about", sa.String(1000), nullable=False),
    )
    op.create_index("ix_events_device", "events", ["device"])
