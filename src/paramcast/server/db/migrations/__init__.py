"""Alembic's migrations from one schema to the next; the wheel contains them."""
