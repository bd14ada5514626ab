#!/usr/bin/env bash
# Usage: bash scripts/rl.sh [SIZE] [--resume PATH | --from-scratch] [--dry-run] [OPTIONS]   (default: 7b; one process per GPU; see --help)
set -euo pipefail
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"
exec python -m unipixel.rl.launch "$@"
