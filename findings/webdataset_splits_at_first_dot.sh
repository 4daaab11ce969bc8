#!/usr/bin/env bash
# webdataset 1.0.2: members of a shard are one sample when their names agree up to the first dot. Clips whose
# names hold dots, as those of LSMDC do, become one sample: the videos of the others are lost.
# Fails when that changes.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q webdataset==1.0.2
"$folder/venv/bin/python" - "$folder" <<'PY'
import io, sys, tarfile
import webdataset as wds

path = f"{sys.argv[1]}/a.tar"
with tarfile.open(path, "w") as tar:
    for key in ("0001_Film_00.00.51-00.00.54", "0001_Film_00.00.55-00.00.57"):
        for ending in ("mp4", "txt"):
            info = tarfile.TarInfo(f"{key}.{ending}")
            info.size = 1
            tar.addfile(info, io.BytesIO(b"x"))
samples = list(wds.WebDataset(path, shardshuffle=False, empty_check=False))
names = [(s["__key__"], sorted(k for k in s if not k.startswith("__"))) for s in samples]
print(names)
assert len(names) == 1 and names[0][0] == "0001_Film_00", "the behavior has changed"
PY
