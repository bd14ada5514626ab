#!/usr/bin/env bash
# Usage: bash scripts/benchmark.sh DATA MODEL [WORKERS [OPTIONS]]   (predicts, segments if needed, scores; one GPU per worker)
set -euo pipefail
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"
exec python -m evqa benchmark "${1:---help}" ${2:+"$2"} ${3:+--workers "$3"} "${@:4}"
