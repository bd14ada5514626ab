#!/usr/bin/env bash
# Usage: bash scripts/auto_eval.sh MODEL [SUITE [WORKERS [OPTIONS]]]   (all tasks of a suite, default unipixel; one GPU per worker)
set -euo pipefail
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"
exec python -m evqa benchmark --suite "${2:-unipixel}" "${1:---help}" ${3:+--workers "$3"} "${@:4}"
