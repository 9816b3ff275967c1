#!/bin/sh
# Times `cellwall-lab up` and `down` as a caller sees them and prints medians in milliseconds.
# Needs root and release binaries. Usage: tests/bench/lab-up-down.sh [RUNS] [CELLS] [KIND] [BIN_DIR]
set -eu
runs=${1:-7}
cells=${2:-3}
kind=${3:-kubernetes}
bin=${4:-$(dirname "$0")/../../target/release}
times=$(mktemp -d)
name=bench-$$
trap '"$bin/cellwall-lab" down --name "$name" 2>/dev/null || true; rm -r "$times"' EXIT

now() { date +%s%N; }
i=0
while [ "$i" -lt "$runs" ]; do
    begun=$(now)
    "$bin/cellwall-lab" up --name "$name" --cells "$cells" --kind "$kind" >/dev/null
    up=$(now)
    "$bin/cellwall-lab" down --name "$name"
    down=$(now)
    echo $(((up - begun) / 1000000)) >>"$times/up"
    echo $(((down - up) / 1000000)) >>"$times/down"
    i=$((i + 1))
done
for what in up down; do
    sort -n "$times/$what" | awk -v what="$what" -v cells="$cells" -v kind="$kind" '
        { at[NR] = $1 }
        END {
            median = NR % 2 ? at[(NR + 1) / 2] : (at[NR / 2] + at[NR / 2 + 1]) / 2
            printf "%-4s %d %s cells, %d runs: median %d ms, least %d ms, most %d ms\n",
                what, cells, kind, NR, median, at[1], at[NR]
        }'
done
