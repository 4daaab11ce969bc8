"""Makes the servers and updates of the other tests importable for the attacks."""

import sys
from pathlib import Path

for room in ("device", "protocol"):
    sys.path.insert(0, str(Path(__file__).parents[1] / room))
