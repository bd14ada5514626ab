#!/usr/bin/env bash
# Usage: bash scripts/download.sh NAME[@COMMIT]..., or --check NAME...   (checkpoints and published data; --help lists them)
set -euo pipefail
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"
exec python -m evqa.hub.download "$@"
