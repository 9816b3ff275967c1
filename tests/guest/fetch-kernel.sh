#!/bin/sh
# Unpacks Debian's cloud kernel into the cache, unless it is there. It is never installed: this
# machine boots nothing of it.
set -eu
PATH=$PATH:/usr/sbin:/sbin # for depmod
cache=${CELLWALL_CACHE:-/var/cache/cellwall}/guest
package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image/ { print $2; exit }')
[ -n "$package" ] || { echo "apt knows no linux-image-cloud-amd64: is this Debian, and was apt-get update run?" >&2; exit 1; }
version=$(apt-cache show --no-all-versions "$package" | awk '/^Version:/ { print $2; exit }')
directory=$cache/${package}_$version
mkdir -p "$cache"
# One at a time: two `make test` on one machine must not unpack twice.
exec 9> "$cache/.lock"
flock 9
if [ ! -e "$directory/vmlinuz" ]; then
  echo "unpacking $package $version into $directory"
  download=$(mktemp -d)
  trap 'rm -rf "$download"' EXIT
  (cd "$download" && apt-get download -q "$package")
  rm -rf "$directory.new"
  dpkg -x "$download"/*.deb "$directory.new"
  release=$(ls "$directory.new/lib/modules")
  depmod -b "$directory.new" "$release"
  ln -s "lib/modules/$release" "$directory.new/modules"
  ln -s "boot/vmlinuz-$release" "$directory.new/vmlinuz"
  rm -rf "$directory"
  mv "$directory.new" "$directory"
fi
ln -sfn "$(basename "$directory")" "$cache/current"
