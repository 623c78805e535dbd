#!/bin/sh
# sandbox.sh ROOT [--bind FOLDER]... COMMAND...: runs COMMAND as `docker run --read-only --tmpfs /tmp --network none`
# does, where there is no container engine: as user 1000 in the folder ROOT, which is read-only but for /tmp and /dev/shm,
# with the loopback interface alone. FOLDERs are seen inside at their own place, read-only. For Linux, started as root.
set -eu

if [ "${LOCLOC_SANDBOX:-}" != inside ]; then
    LOCLOC_SANDBOX=inside exec unshare --net --mount --pid --ipc --uts --fork --kill-child -- sh "$0" "$@"
fi

root=$1
shift
mount --make-rprivate /
ip link set lo up

mount --bind "$root" "$root"
mkdir -p "$root/proc" "$root/dev" "$root/tmp"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mount -t tmpfs -o mode=1777,noexec,nosuid,nodev tmpfs "$root/tmp"
for device in null zero full random urandom; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/shm"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
while [ "$1" = --bind ]; do
    if [ -L "$2" ]; then  # /bin, /lib
        ln -sfn "$(readlink "$2")" "$root$2"
    else
        mkdir -p "$root$2"
        mount --bind "$2" "$root$2"
        mount -o remount,bind,ro "$root$2"
    fi
    shift 2
done
mount -o remount,bind,ro "$root/dev"
mount -o remount,bind,ro "$root"

exec chroot --userspec=1000:1000 --groups= "$root" env -i HOME=/ PATH="${SANDBOX_PATH:-/opt/locloc/bin:/usr/local/bin:/usr/bin:/bin}" "$@"
