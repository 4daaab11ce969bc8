#!/bin/sh
# nginx for the test of deploy/nginx.conf: one that is there, or Debian's package.
set -eu
if command -v nginx >/dev/null || [ -x /usr/sbin/nginx ]; then exit 0; fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    if apt-get update && apt-get install -y --no-install-recommends nginx-light; then exit 0; fi
fi
echo "no nginx, and no right to install it: the test of deploy/nginx.conf is skipped" >&2
