#!/usr/bin/env bash
# Usage: bash scripts/quickstart.sh [--quick]   (train, predict, score and show the tiny model; --help tells more)
set -euo pipefail
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"
exec python -m unipixel.quickstart "$@"
