"""Experiments on model quality and load: what was measured, and what measures it. Not part of the package.

Run from the repository's folder: python -m experiments --help
"""

from pathlib import Path

ROOT = Path(__file__).parents[1]
"""The repository's folder, from which programs of this folder are run as modules."""
