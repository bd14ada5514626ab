#!/usr/bin/env bash
# Usage: bash scripts/test.sh [PYTEST ARGUMENTS]   (every check of the project, on a fresh machine too)
set -euo pipefail
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"
if ! command -v chromedriver >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    { apt-get update -qq && apt-get install -y -qq chromium chromium-driver; } >/dev/null 2>&1 ||
        echo "no chromium to be had: the test of the page will skip" >&2
fi
ruff check .
ruff format --check .
pyright
lint-imports
export OMP_NUM_THREADS=1  # a test process per core, each of one thread
exec pytest --numprocesses "$(nproc)" --maxprocesses 4 --dist loadfile "$@"
