#!/bin/sh
# empty_root.sh WHEELHOUSE ROOT: the steps of Dockerfile and apptainer.def where there is no container engine: a Debian
# with Python in the new folder ROOT, locloc installed there without a network, then check.sh and `locloc demo` in
# sandbox.sh. Needs root, debootstrap, and Debian's mirror for the first step.
set -eu
here=$(cd "$(dirname "$0")" && pwd) wheelhouse=$(cd "$1" && pwd) root=$2
scripts=/usr/local/lib/locloc

[ -d "$root/usr" ] || debootstrap --variant=minbase --include=python3-venv stable "$root"
mkdir -p "$root$scripts" "$root/wheelhouse"
cp "$here"/*.sh "$root$scripts"

unshare --net --mount -- sh -euc '
    mount --make-rprivate /
    mount -t proc proc "$1/proc"
    mount --bind "$2" "$1/wheelhouse"
    exec chroot "$1" env -i PATH=/usr/local/bin:/usr/bin:/bin HOME=/root sh "$3/install.sh" /wheelhouse
' sh "$root" "$wheelhouse" "$scripts"

sh "$here/sandbox.sh" "$root" sh "$scripts/run.sh" sh "$scripts/check.sh" /tmp/check
sh "$here/sandbox.sh" "$root" sh "$scripts/run.sh" demo /tmp/demo
