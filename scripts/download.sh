#!/usr/bin/env bash
# Usage: bash scripts/download.sh NAME[@COMMIT]..., or --check NAME...   (checkpoints into model_zoo/, published data into data/)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
exec python -m evqa.fetch "$@"
