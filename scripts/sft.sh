#!/usr/bin/env bash
# Usage: bash scripts/sft.sh [SIZE [DECODER [CHECKPOINT | --from_scratch]]] [OPTIONS]   (default: 3b base; one process per GPU, then the benchmark; see --help)
set -euo pipefail
export EVQA_START_FOLDER="$PWD"  # a relative CHECKPOINT starts there
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"
exec python -m unipixel.launch "$@"
