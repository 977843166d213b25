#!/usr/bin/env bash
# The quickstart: score, look, train SFT-GO and standard SFT, evaluate both, compare. Usage: quickstart.sh [SFTGO [RUNS]]
set -euo pipefail
sftgo=${1:-sftgo}
runs=${2:-runs}
recipe=$(dirname "$0")/quickstart.yaml
step() { printf '\n$ sftgo %s\n' "$*"; "$sftgo" "$@"; }

step score "$recipe"
step inspect "$recipe" --rows 3
step train "$recipe" training.output_dir="$runs/quickstart"
step train "$recipe" training.output_dir="$runs/quickstart-sft" objective=cross_entropy
step eval "$runs/quickstart-sft"
step eval "$runs/quickstart"
step compare "$runs/quickstart-sft" "$runs/quickstart"
step inspect "$recipe" --rows 40 --html "$runs/quickstart/tokens.html"
