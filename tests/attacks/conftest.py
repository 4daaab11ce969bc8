"""The cloud under attack is the one of the other tests: tiny generators on a real server."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "device"))
