#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8): a GIF whose pictures have no delays, as Pillow writes them by default, has one frame.
# FFmpeg 5 and browsers show all of them, a tenth of a second each.
# Fails when that changes.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q av==18.1.0 pillow==13.0.0
"$folder/venv/bin/python" - "$folder" <<'PY'
import sys
import av
from PIL import Image

pictures = [Image.new("RGB", (64, 48), (20 * n, 90, 120)) for n in range(6)]
path = f"{sys.argv[1]}/a.gif"
pictures[0].save(path, save_all=True, append_images=pictures[1:])
with Image.open(path) as image, av.open(path) as container:
    shown = len(list(container.decode(video=0)))
    print("pictures:", image.n_frames, "- frames:", shown)
    assert (image.n_frames, shown) == (6, 1), "the behavior has changed"
PY
# Seen: pictures: 6 - frames: 1
