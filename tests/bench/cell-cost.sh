#!/bin/sh
# What an idle Kubernetes cell costs: memory (PSS, so that shared program text counts once) and CPU
# over a minute, of everything in it: control plane, worker, pods, agents. Needs root and release
# binaries. Usage: tests/bench/cell-cost.sh [CELLS] [SECONDS] [BIN_DIR]
set -eu
cells=${1:-3}
seconds=${2:-60}
bin=${3:-$(dirname "$0")/../../target/release}
name=cost-$$
trap '"$bin/cellwall-lab" down --name "$name" 2>/dev/null || true' EXIT
"$bin/cellwall-lab" up --name "$name" --cells "$cells" --json - 2>/dev/null >"/tmp/$name.json"
holder=$(sed -n 's/.*"holder_pid": *\([0-9]*\).*/\1/p' "/tmp/$name.json" | head -n 1)
rm "/tmp/$name.json"
clouds=$(ls "/proc/$holder/root/run/netns" | sed -n 's/^cp\.//p')

# Pids of one cell: by control group (worker and pods) or by network namespace (both nodes).
of_cell() {
    cp=$(stat -Lc %i "/proc/$holder/root/run/netns/cp.$1")
    n1=$(stat -Lc %i "/proc/$holder/root/run/netns/n1.$1")
    for process in /proc/[0-9]*; do
        net=$(stat -Lc %i "$process/ns/net" 2>/dev/null) || continue
        if [ "$net" = "$cp" ] || [ "$net" = "$n1" ] \
            || grep -q "cellwall-lab-$name-.*/n1.$1" "$process/cgroup" 2>/dev/null; then
            echo "${process#/proc/}"
        fi
    done
}
ticks() { # user and system time of these pids, in clock ticks
    for pid in $1; do sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null; done \
        | awk '{ sum += $12 + $13 } END { print sum + 0 }'
}

sleep 30 # what starting left behind has settled by then
for cell in $clouds; do
    pids=$(of_cell "$cell")
    pss=$(for pid in $pids; do awk '/^Pss:/ { print $2 }' "/proc/$pid/smaps_rollup" 2>/dev/null; done \
        | awk '{ sum += $1 } END { printf "%d", sum / 1024 }')
    eval "before_$(echo "$cell" | tr - _)=$(ticks "$pids")"
    eval "pids_$(echo "$cell" | tr - _)='$pids'"
    echo "$cell: $(echo "$pids" | wc -w) processes, $pss MiB"
done
sleep "$seconds"
for cell in $clouds; do
    key=$(echo "$cell" | tr - _)
    eval "pids=\$pids_$key before=\$before_$key"
    after=$(ticks "$pids")
    awk -v cell="$cell" -v ticks="$((after - before))" -v hz="$(getconf CLK_TCK)" -v s="$seconds" \
        'BEGIN { printf "%s: %.1f %% of one core over %d s\n", cell, 100 * ticks / hz / s, s }'
done
