#!/usr/bin/env bash
# PyAV 16.1.0 (and 15.1.0) reads a clip that is tagged BT.709 (limited range), of untouched size, by the matrix
# of BT.601; 17.1.0 (and 18.1.0) goes by the tag. The same file gives other pixels, by 19 of 255.
# Fails when that changes.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.3.5
for version in 16.1.0 17.1.0; do
  "$folder/venv/bin/pip" install -q --no-deps --target "$folder/$version" "av==$version"
done
cat > "$folder/make.py" <<'PY'
import sys
import av, numpy as np
with av.open(sys.argv[1], "w") as sink:
    stream = sink.add_stream("libx264", rate=10, options={"crf": "4", "x264-params": "colormatrix=bt709:colorprim=bt709:transfer=bt709"})
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    # Pure green in BT.709, limited range: Y 173, Cb 42, Cr 26.
    for n in range(3):
        frame = av.VideoFrame(64, 48, "yuv420p")
        for plane, value in zip(frame.planes, (173, 42, 26)):
            plane.update(bytes([value]) * plane.buffer_size)
        sink.mux(stream.encode(frame))
    sink.mux(stream.encode())
PY
cat > "$folder/read.py" <<'PY'
import sys
import av
with av.open(sys.argv[1]) as container:
    frame = next(container.decode(video=0))
    print(int(frame.colorspace), *frame.to_ndarray(format="rgb24")[20, 20])
PY
PYTHONPATH="$folder/17.1.0" "$folder/venv/bin/python" "$folder/make.py" "$folder/a.mp4"
before=$(PYTHONPATH="$folder/16.1.0" "$folder/venv/bin/python" "$folder/read.py" "$folder/a.mp4")
after=$(PYTHONPATH="$folder/17.1.0" "$folder/venv/bin/python" "$folder/read.py" "$folder/a.mp4")
echo "16.1.0: $before; 17.1.0: $after (colorspace, red, green, blue)"
[ "$before" != "$after" ] || { echo "the behavior has changed"; exit 1; }
