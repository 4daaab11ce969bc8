"""The cloud is tested with the same tiny bundles and generators as the device."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "device"))
