"""Experiments on model quality and load: results, and the programs that measure them. Not in the package.

Run from the repository's folder: python -m experiments --help
"""

from pathlib import Path

ROOT = Path(__file__).parents[1]
"""The repository's folder. Programs of this folder are run from it as modules."""
