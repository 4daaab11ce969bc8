"""Adds places of updates and devices on the fleet's map, and the sizes of the requests for updates."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Upgrade from the previous schema."""
    op.add_column("devices", sa.Column("model", sa.String(64)))
    op.add_column("packages", sa.Column("request_bytes", sa.Integer))
    for table in ("devices", "packages"):
        for name in ("x", "y"):
            op.add_column(table, sa.Column(name, sa.Integer))
