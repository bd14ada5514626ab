#!/usr/bin/env bash
# Usage: bash scripts/sft.sh [SIZE [DECODER [CHECKPOINT | --from_scratch]]] [OPTIONS]   (3b base; one process per GPU found, then the benchmark; --help tells more)
set -euo pipefail
export EVQA_START_FOLDER="$PWD"  # a relative CHECKPOINT starts there
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"
exec python -m unipixel.launch "$@"
