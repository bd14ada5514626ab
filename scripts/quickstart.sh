#!/usr/bin/env bash
# Usage: bash scripts/quickstart.sh [--quick]   (trains and evaluates the tiny model; see --help)
set -euo pipefail
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"
exec python -m unipixel.quickstart "$@"
