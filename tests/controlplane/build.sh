#!/bin/sh
# Puts the programs of Kubernetes cells into the cache, unless they are there: one multi-call
# binary built from this module, and Debian's containerd, runc and CNI plugins, unpacked and never
# installed, so that no daemon starts on this machine.
set -eu
cd "$(dirname "$0")"
cache=${CELLWALL_CACHE:-/var/cache/cellwall}
version=v1.36.2
debian="containerd runc containernetworking-plugins"
names="coredns etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl"
PATH=$PATH:/usr/local/go/bin

# The inputs by content, so that a checkout elsewhere or a touched file builds nothing.
key() {
  { cat go.mod go.sum ./*.go; echo "$version $1"; } | sha256sum | cut -c1-16
}

built() {
  [ -x "$1/controlplane" ] && [ -x "$1/kubectl" ]
}

# `go build -v` names every package when it is compiled; packages in Go's own cache are skipped.
progress() {
  awk -v total="$1" '/^[a-z]/ { done++; if (done % 50 == 0) { printf "  %d of at most %d packages\n", done, total; fflush() } next } { print; fflush() }'
}

build_controlplane() {
  if ! command -v go >/dev/null; then
    echo "go is missing: install Go 1.26 or later (https://go.dev/doc/install), then: make cluster-programs" >&2
    exit 1
  fi
  directory=$cache/controlplane/$(key "$(go version)")
  if ! built "$directory"; then
    echo "building Kubernetes $version, etcd and CoreDNS into $directory (5 to 7 minutes on 2 cores, once)"
    mkdir -p "$directory"
    started=$(date +%s)
    total=$(go list -tags kubelet -deps . | wc -l)
    status=$directory/.status
    { CGO_ENABLED=0 nice -n 5 go build -v -tags kubelet -trimpath \
        -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$version -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36" \
        -o "$directory/controlplane.new" . 2>&1; echo $? > "$status"; } | progress "$total"
    [ "$(cat "$status")" = 0 ] || { echo "the build failed; nothing was changed but $directory" >&2; exit 1; }
    rm -f "$status"
    mv "$directory/controlplane.new" "$directory/controlplane"
    for name in $names; do ln -sfn controlplane "$directory/$name"; done
    echo "built in $(( $(date +%s) - started )) s"
  fi
  ln -sfn "$(basename "$directory")" "$cache/controlplane/current"
}

unpack_debian() {
  versions=$(apt-cache show --no-all-versions $debian | grep -E '^(Package|Version|Architecture):' | sha256sum | cut -c1-16)
  directory=$cache/node/$versions
  if [ ! -x "$directory/usr/bin/containerd" ] || [ ! -x "$directory/usr/sbin/runc" ] || [ ! -x "$directory/usr/lib/cni/bridge" ]; then
    echo "unpacking Debian's $debian into $directory"
    download=$(mktemp -d)
    trap 'rm -rf "$download"' EXIT
    (cd "$download" && apt-get download -q $debian)
    rm -rf "$directory.new"
    for package in "$download"/*.deb; do dpkg -x "$package" "$directory.new"; done
    rm -rf "$directory"
    mv "$directory.new" "$directory"
  fi
  ln -sfn "$(basename "$directory")" "$cache/node/current"
}

mkdir -p "$cache/controlplane" "$cache/node"
# One at a time: two `make test` on one machine must not build twice.
exec 9> "$cache/.lock"
flock 9
build_controlplane
unpack_debian
