#!/usr/bin/env bash
# Usage: bash scripts/sft.sh SIZE DECODER [OPTIONS]   (3b base; one process per GPU found, one on a CPU; --help tells more)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
gpus=$(python -c "import torch; print(torch.cuda.device_count())")
if [ "$gpus" -gt 1 ]; then
    exec torchrun --standalone --nproc-per-node "$gpus" -m unipixel.sft "$@"
fi
exec python -m unipixel.sft "$@"
