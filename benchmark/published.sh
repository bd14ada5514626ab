#!/usr/bin/env bash
# Usage: bash NAME.sh [ARGUMENTS]   (every published shell script: a link to this file has its name)
set -euo pipefail
start=$PWD
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../scripts/setup.sh"
cd "$start"
exec python -m evqa.published "$(basename "$0")" "$@"
