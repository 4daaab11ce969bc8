#!/usr/bin/env bash
# pysubs2 1.8.1, reading WebVTT: a NOTE block becomes text of the cue before it, and a last line of a cue that
# is a number is lost.
# Fails when that changes.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pysubs2==1.8.1
"$folder/venv/bin/python" - <<'PY'
import pysubs2

text = "WEBVTT\n\n00:01.000 --> 00:02.000\nfirst\n\nNOTE\nfor the editor\n\n00:03.000 --> 00:04.000\nthe answer is\n42\n"
said = [event.plaintext for event in pysubs2.SSAFile.from_string(text, format_="vtt")]
print(said)
assert "for the editor" in said[0], "the behavior has changed: notes stay out"
assert "42" not in said[1], "the behavior has changed: the number stays"
PY
# Seen: ['first\n\nNOTE\nfor the editor', 'the answer is']
