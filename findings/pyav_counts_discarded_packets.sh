#!/usr/bin/env bash
# PyAV 18.1.0: a cut by copy holds packets that are decoded and not shown. `stream.frames` counts them, and so
# does whoever counts packets; decoding drops them. `packet.is_discard` tells them apart.
# Fails when that changes.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q av==18.1.0 numpy==2.3.5
"$folder/venv/bin/python" - "$folder" <<'PY'
import sys
import av, numpy as np

folder = sys.argv[1]
with av.open(f"{folder}/long.mp4", "w") as sink:
    stream = sink.add_stream("libx264", rate=10, options={"g": "25", "bf": "2"})
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    for n in range(60):
        sink.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 4 * n, np.uint8), format="rgb24")))
    sink.mux(stream.encode())
# What `ffmpeg -ss 2 -i long.mp4 -t 2.5 -c copy cut.mp4` does: from the key frame before, with negative times.
with av.open(f"{folder}/long.mp4") as whole, av.open(f"{folder}/cut.mp4", "w") as part:
    stream = whole.streams.video[0]
    copy, shift = part.add_stream_from_template(stream), int(2 / stream.time_base)
    whole.seek(shift, stream=stream)
    for packet in whole.demux(stream):
        if packet.size and packet.pts * stream.time_base < 4.5:
            packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
            part.mux(packet)
with av.open(f"{folder}/cut.mp4") as cut:
    said = cut.streams.video[0].frames
    packets = [packet for packet in cut.demux(video=0) if packet.size]
with av.open(f"{folder}/cut.mp4") as cut:
    shown = sum(1 for _ in cut.decode(video=0))
discarded = sum(packet.is_discard for packet in packets)
print(f"stream.frames {said}, packets {len(packets)}, of them discarded {discarded}, frames shown {shown}")
assert (said, len(packets), discarded, shown) == (45, 45, 20, 25), "the behavior has changed"
PY
# Seen: stream.frames 45, packets 45, of them discarded 20, frames shown 25
