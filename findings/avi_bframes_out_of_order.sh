#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8): H.264 with B-frames in AVI, which stores no presentation times. The frames come in
# the right order, their `pts` and `time` do not: sorting or seeking by them mixes frames up.
# Fails when that changes.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q av==18.1.0 numpy==2.3.5
"$folder/venv/bin/python" - "$folder" <<'PY'
import sys
import av, numpy as np

path = f"{sys.argv[1]}/a.avi"
with av.open(path, "w") as sink:
    stream = sink.add_stream("libx264", rate=10, options={"bf": "3", "g": "20", "preset": "veryfast"})
    stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
    for n in range(20):
        picture = np.full((240, 320, 3), 12 * n, np.uint8)
        picture[:, 10 * n : 10 * n + 40] = 255
        sink.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
    sink.mux(stream.encode())
with av.open(path) as container:
    frames = [(int(frame.to_ndarray(format="gray")[:, -20:].mean()), frame.pts) for frame in container.decode(video=0)]
levels, times = [level for level, _ in frames], [pts for _, pts in frames]
print("frames in order:", levels == sorted(levels), "- times:", times)
assert levels == sorted(levels), "the order of the frames has changed"
assert times != sorted(times), "the behavior has changed: times are in order"
PY
# Seen: frames in order: True - times: [1, 2, 4, 3, 5, 6, 8, 7, 9, ...]
