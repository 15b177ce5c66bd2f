# shellcheck shell=bash
# A machine for tests of packages: a real systemd as process 1 of a container, on a host that need not have one.
# shellcheck disable=SC2016 # what is in single quotes is for another shell
# To be sourced. It takes root, and systemd-nspawn.
#
#   machine_root FOLDER SUITE PACKAGE…   a root of Debian, made once and never written afterwards
#   machine_up FOLDER                    boots it under a fresh overlay, and waits until systemd is ready
#   inside COMMAND…                      as root in there, in a scope of its own
#   machine_put FILE… FOLDER             copies files into it
#   machine_reboot                       what was written stays
#   machine_off                          powers it off: services are stopped in order
#   machine_down                         powers it off, and removes all that machine_up made
#
# It has a loopback and no other network. What it writes is in memory or in $machine/upper, gone with it.

machine="" machine_group="" machine_pid="" machine_name=supd-test-$$
# Whatever happens, it ends after so many seconds; and so long one boot, or one way off, may take.
machine_life=1800 machine_patience=60

# The one hierarchy of version 2, wherever it is mounted.
cgroup2() {
    awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts
}

machine_root() {
    local folder=$1 suite=$2 packages
    shift 2
    packages=$(IFS=,; printf '%s' "$*")
    [ "$(cat "$folder.complete" 2> /dev/null)" != "$suite $packages" ] || return 0
    rm -rf "$folder" "$folder.complete"
    printf 'making a root of Debian %s in %s\n' "$suite" "$folder"
    mmdebstrap --quiet --variant=apt --include="$packages" "$suite" "$folder"
    # Empty: a new one at each boot from nothing, and not the first boot of an image, which enables by presets.
    : > "$folder/etc/machine-id"
    rm -f "$folder/etc/hostname"
    printf '127.0.0.1 localhost\n::1 localhost\n' > "$folder/etc/hosts"
    # They would have dpkg's lock in the middle of a test.
    ln -sf /dev/null "$folder/etc/systemd/system/apt-daily.timer"
    ln -sf /dev/null "$folder/etc/systemd/system/apt-daily-upgrade.timer"
    mkdir -p "$folder/var/log/journal"
    printf '%s %s\n' "$suite" "$packages" > "$folder.complete"
}

# The container's systemd, by its number out here.
machine_leader() {
    local of
    of=$(head -n 1 "$machine_group/payload/init.scope/cgroup.procs" 2> /dev/null) && [ -n "$of" ] && printf '%s' "$of"
}

# Waits until a command says yes: wait_for SECONDS WHAT COMMAND…
wait_for() {
    local until=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        if [ "$SECONDS" -ge "$until" ]; then
            printf 'waited in vain: %s\n' "$what" >&2
            return 1
        fi
        sleep 0.05
    done
}

machine_is_ready() {
    local leader
    kill -0 "$machine_pid" 2> /dev/null || return 0
    leader=$(machine_leader) && [ "$leader" != "${1:-}" ] &&
        [ "$(readlink "/proc/$leader/exe")" = /usr/lib/systemd/systemd ] &&
        case $(enter systemctl is-system-running 2> /dev/null) in running | degraded) true ;; *) false ;; esac
}

machine_boot() { # [LEADER that was]
    if ! wait_for "$machine_patience" "the machine to come up" machine_is_ready "${1:-}" ||
        ! kill -0 "$machine_pid" 2> /dev/null; then
        tail -n 30 "$machine/console" >&2
        return 1
    fi
    [ "$(enter systemctl is-system-running)" = running ] || enter systemctl --failed --no-pager >&2
}

machine_up() {
    local root
    root=$(realpath "$1")
    machine=$(mktemp -d "${TMPDIR:-/tmp}/$machine_name.XXXXXX")
    machine_group=$(cgroup2)/$machine_name
    mkdir "$machine/upper" "$machine/work" "$machine/root" "$machine_group"
    # In a mount namespace, so that the overlay is gone with the last process however that ends, with a /run/systemd of
    # its own, where nspawn keeps files; and in a cgroup, which it divides. The container sees version 2 alone. Without
    # the first two lines of its environment it would lack what supd asks of a plain host: bpf(2), pidfd_getfd(2).
    SYSTEMD_SECCOMP=0 SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 unshare --mount --propagation private bash -c '
        set -e
        printf "%s" "$$" > "$2/cgroup.procs"
        mount -t overlay -o "lowerdir=$1,upperdir=$3/upper,workdir=$3/work,volatile" overlay "$3/root"
        mkdir -p /run/systemd
        mount -t tmpfs -o mode=755,size=16m tmpfs /run/systemd
        end=$((SECONDS + $5))
        again=133 # by which nspawn says, with --keep-unit, that the container wants to boot again
        status=$again
        while [ "$status" = "$again" ] && [ "$SECONDS" -lt "$end" ]; do
            status=0
            timeout -k 30 "$((end - SECONDS))" systemd-nspawn --quiet --directory="$3/root" --machine="$4" --boot \
                --register=no --keep-unit --private-users=no --private-network --resolv-conf=off --timezone=off \
                --link-journal=no --console=read-only --capability=CAP_BPF,CAP_PERFMON,CAP_IPC_LOCK \
                --kill-signal=SIGRTMIN+4 || status=$?
        done' bash "$root" "$machine_group" "$machine" "$machine_name" "$machine_life" \
        < /dev/null > "$machine/console" 2>&1 &
    machine_pid=$!
    machine_boot
}

# In all of its namespaces, with the environment of a login.
enter() {
    local leader
    leader=$(machine_leader) || { echo "the machine is not up" >&2; return 125; }
    nsenter -t "$leader" -m -u -i -n -p -C -- /usr/bin/env -i -C /root PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
        USER=root LOGNAME=root SHELL=/bin/bash LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
}

inside() {
    enter systemd-run --scope --quiet --collect --property=RuntimeMaxSec=300 -- \
        /usr/bin/env --unset=INVOCATION_ID "$@"
}

machine_put() {
    local folder=${*: -1} file
    for file in "${@:1:$#-1}"; do
        tar -C "$(dirname "$file")" -cf - --owner=0 --group=0 "$(basename "$file")" |
            enter sh -c 'mkdir -p "$1" && tar -C "$1" -xf -' sh "$folder"
    done
}

machine_reboot() {
    local leader
    leader=$(machine_leader)
    enter systemctl reboot 2> /dev/null || true
    machine_boot "$leader"
}

machine_is_off() {
    ! kill -0 "$machine_pid" 2> /dev/null
}

machine_off() {
    local leader
    if leader=$(machine_leader); then
        kill -s RTMIN+4 "$leader"
        wait_for "$machine_patience" "the machine to go" machine_is_off
    fi
}

machine_remains() {
    find "$(cgroup2)/$machine_name" "/sys/fs/cgroup/systemd/$machine_name" -name cgroup.procs -exec cat {} + 2> /dev/null
}

machine_is_empty() {
    machine_remains | xargs -r kill -KILL 2> /dev/null
    [ -z "$(machine_remains)" ]
}

machine_down() {
    [ -n "$machine" ] || return 0
    machine_off || true
    # Only what is in its own cgroup.
    wait_for 10 "the machine's processes to end" machine_is_empty || true
    local folder
    for folder in "$(cgroup2)/$machine_name" "/sys/fs/cgroup/systemd/$machine_name"; do
        [ ! -d "$folder" ] || find "$folder" -depth -type d -exec rmdir {} +
    done
    rm -rf --one-file-system "$machine"
    machine=""
}
