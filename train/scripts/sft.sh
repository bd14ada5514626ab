#!/usr/bin/env bash
# Usage: cd train; bash scripts/sft.sh [SIZE [DECODER [CHECKPOINT | --from_scratch]]] [OPTIONS]   (as scripts/sft.sh)
exec bash "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../../scripts/sft.sh" "$@"
