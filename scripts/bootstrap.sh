#!/usr/bin/env bash
# Make this checkout ready: system packages, a virtual environment in .venv, usenetfs in it.
#
#   scripts/bootstrap.sh          what running and testing need
#   scripts/bootstrap.sh --list   print the system packages and stop
#
# Idempotent, and done in well under a second when there is nothing to do. On Debian and Ubuntu it
# installs what is missing through apt (with sudo when not root); elsewhere it says what is missing
# and exits with status 1. The tests' private INN needs the libraries that Debian's inn2 names; they
# are asked from apt, so that no list of versions can grow old here. inn2 itself is never installed.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv
stamp=$venv/.bootstrap
minimum="3.11"

say() { printf 'bootstrap: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

# --- python --------------------------------------------------------------------------------------

# The distribution's own interpreter first: its headers are the ones that python3-dev brings, and
# version managers like to put another python3 in front of it.
find_python() {
    local candidate
    for candidate in /usr/bin/python3 python3.13 python3.12 /usr/bin/python3.11 python3.11 python3; do
        if command -v "$candidate" >/dev/null 2>&1 && "$candidate" - "$1" 2>/dev/null <<'PY'
import os, sys, sysconfig
ready = sys.version_info >= (3, 11)
if sys.argv[1] == "complete":
    import ensurepip, venv
    ready = ready and os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h"))
sys.exit(not ready)
PY
        then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

# --- system packages -----------------------------------------------------------------------------

is_debian() { command -v apt-get >/dev/null 2>&1 && command -v dpkg-query >/dev/null 2>&1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        die "needs root for: $* (there is no sudo; run that as root, then start again)"
    fi
}

base_packages() {
    # To build and run: FUSE with its headers, a compiler. To test: programs run inside the mount.
    printf '%s\n' fuse3 libfuse3-dev pkg-config gcc libc6-dev make git rsync fio acl attr \
        ca-certificates diffutils e2fsprogs openssl procps util-linux
    if find_python complete >/dev/null; then
        :
    elif find_python version >/dev/null && [ "$(find_python version)" = /usr/bin/python3 ]; then
        printf '%s\n' python3-dev python3-venv
    else
        # An older distribution: its python3 is too old, but it has a newer one beside it.
        printf '%s\n' "python$minimum" "python$minimum-dev" "python$minimum-venv"
    fi
}

# For the tests of the web page. Ubuntu has no such package (its browser is a snap): there any Chromium
# or Chrome will do, and without one those tests fail, saying so.
browser() { apt-cache policy chromium 2>/dev/null | awk '$1 == "Candidate:" && $2 != "(none)" { print "chromium" }'; }

inn_libraries() { apt-cache depends inn2 2>/dev/null | awk '$1 == "Depends:" && $2 ~ /^lib/ && $2 !~ /-perl$/ { print $2 }'; }

missing_of() {
    local package
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || printf '%s\n' "$package"
    done
}

# Silent unless it fails: then the end of what apt said.
apt() {
    local output
    output=$(as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" </dev/null 2>&1) && return 0
    printf '%s\n' "$output" | tail -n 20 >&2
    return 1
}

install_system_packages() {
    local wanted missing
    [ -n "$(inn_libraries)" ] || { say "reading the package lists"; apt update; }
    mapfile -t wanted < <(base_packages; browser; inn_libraries)
    mapfile -t missing < <(missing_of "${wanted[@]}")
    [ "${#missing[@]}" = 0 ] && return 0
    say "installing ${missing[*]}"
    apt install -y --no-install-recommends "${missing[@]}" && return 0
    say "that failed; once more with fresh package lists"
    apt update
    apt install -y --no-install-recommends "${missing[@]}"
}

list_for_others() {
    local lacking=() command
    for command in fusermount3 pkg-config cc make git rsync openssl; do
        command -v "$command" >/dev/null 2>&1 || lacking+=("$command")
    done
    pkg-config --exists fuse3 2>/dev/null || lacking+=("libfuse 3 with its headers (fuse3-devel, fuse3-dev)")
    find_python complete >/dev/null || lacking+=("Python $minimum or newer with venv and headers (python3-devel)")
    [ "${#lacking[@]}" = 0 ] && return 0
    say "this is not a Debian or Ubuntu system. Please install, then start again:"
    printf '  - %s\n' "${lacking[@]}" >&2
    exit 1
}

if [ "${1:-}" = --list ]; then
    base_packages
    if is_debian; then browser; inn_libraries; fi
    exit 0
fi

if [ "${1:-}" = --long ]; then
    # What only the long campaigns run inside the mount.
    if is_debian; then
        mapfile -t missing < <(missing_of postgresql)
        [ "${#missing[@]}" = 0 ] || { say "installing ${missing[*]}"; apt install -y --no-install-recommends "${missing[@]}"; }
    fi
    exit 0
fi

fingerprint() {
    {
        cat pyproject.toml scripts/bootstrap.sh
        "$venv/bin/python" -VV
        pwd
    } 2>/dev/null | sha256sum
}

if [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$(fingerprint)" ] && command -v fusermount3 >/dev/null 2>&1; then
    exit 0
fi

if is_debian; then install_system_packages; else list_for_others; fi
[ -e /dev/fuse ] || as_root modprobe fuse 2>/dev/null || say "warning: no /dev/fuse here; nothing can be mounted"

python=$(find_python complete) || die "no Python $minimum or newer with venv and headers was found"

# --- virtual environment -------------------------------------------------------------------------

if [ -e "$venv" ] && ! "$venv/bin/python" -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    say "$venv is broken or too old; making it anew"
    rm -rf "$venv"
fi
if [ ! -e "$venv" ]; then
    say "making $venv with $python ($("$python" -V))"
    "$python" -m venv "$venv"
fi
say "installing usenetfs and what it needs into $venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[dev]' </dev/null
fingerprint >"$stamp"
say "ready"
