#!/usr/bin/env bash
# Puts uv into .tools, with nothing but a Python 3; on Debian as root also installs what `venv` lacks there.
set -euo pipefail
if ! python3 -m venv .tools 2>/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get -q -y update && DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends python3-venv
    rm -rf .tools && python3 -m venv .tools
  else
    echo "python3 cannot make virtual environments; run: sudo apt-get install python3-venv" >&2
    exit 1
  fi
fi
.tools/bin/pip install --quiet --disable-pip-version-check "uv==0.13.8"
