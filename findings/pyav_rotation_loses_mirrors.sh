#!/usr/bin/env bash
# PyAV 18.1.0: `frame.rotation` of a mirrored display matrix is -180 for a flip from left to right (the picture
# would be turned upside down) and 0 for a flip upside down. The matrix itself is in `frame.side_data`.
# Fails when that changes.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q av==18.1.0 numpy==2.3.5
"$folder/venv/bin/python" - "$folder" <<'PY'
import struct, sys
import av, numpy as np

path = f"{sys.argv[1]}/a.mp4"
with av.open(path, "w") as sink:
    stream = sink.add_stream("libx264", rate=10)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    for n in range(3):
        sink.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
    sink.mux(stream.encode())
data = bytearray(open(path, "rb").read())
place = data.find(b"tkhd") + 4 + 40
seen = {}
for name, (a, b, c, d) in {"left to right": (-1, 0, 0, 1), "upside down": (1, 0, 0, -1)}.items():
    data[place : place + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    open(path, "wb").write(data)
    with av.open(path) as container:
        frame = next(container.decode(video=0))
        side = next(s for s in frame.side_data if s.type.name == "DISPLAYMATRIX")
        seen[name] = (int(frame.rotation), [v >> 16 for v in struct.unpack("<5i", bytes(side)[:20])])
print(seen)
assert seen["left to right"] == (-180, [-1, 0, 0, 0, 1]), "the behavior has changed"
assert seen["upside down"] == (0, [1, 0, 0, 0, -1]), "the behavior has changed"
PY
# Seen: {'left to right': (-180, [-1, 0, 0, 0, 1]), 'upside down': (0, [1, 0, 0, 0, -1])}
