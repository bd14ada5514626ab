#!/usr/bin/env bash
# Usage: bash scripts/rl.sh [SIZE] [--resume PATH | --from-scratch] [--dry-run] [OPTIONS]   (default: 7b; one process per GPU; see --help)
set -euo pipefail
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"
case " $* " in  # the grounded model is trained by the command of fine-tuning, see docs/evidence_rl.md
  *" --recipe evidence-rl "* | *" --recipe=evidence-rl "*) exec python -m unipixel.launch "$@" ;;
esac
exec python -m unipixel.rl.launch "$@"
