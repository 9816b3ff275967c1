#!/bin/sh
# Prints --skip for each kind of test that this machine cannot run, and says on standard error which
# and why: a test of such a kind has the word in its name, and fails where it runs all the same.
leave_out() {
  echo "not run: tests with $1 in their name: $2" >&2
  echo "--skip $1"
}

v1=$(awk '$3 == "cgroup" { print $4 }' /proc/mounts | tr ',\n' '  ')
for controller in freezer cpu memory blkio; do
  case " $v1 " in
    *" $controller "*) ;;
    *) leave_out needs_v1 "no cgroup v1 hierarchy with $controller"; break ;;
  esac
done
awk '$3 == "cgroup2" { found = 1 } END { exit !found }' /proc/mounts \
  || leave_out needs_v2 "no cgroup v2 hierarchy"
if unshare --net tc qdisc add dev lo root netem delay 1ms 2>/dev/null; then
  leave_out needs_no_netem "this kernel has netem, which the tests in QEMU try"
fi
