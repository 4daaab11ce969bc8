"""The cloud under attack, and the packages, are those of the other tests."""

import sys
from pathlib import Path

for room in ("device", "protocol"):
    sys.path.insert(0, str(Path(__file__).parents[1] / room))
