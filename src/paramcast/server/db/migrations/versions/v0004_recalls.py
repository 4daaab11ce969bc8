"""Adds the recalls of each base model."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Upgrade from the previous schema."""
    op.create_table(
        "recalls",
        sa.Column("model", sa.String(64), primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("to_base", sa.Boolean, nullable=False),
    )
