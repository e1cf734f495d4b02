#!/bin/sh
# Installs skerry as a systemd service of a user of its own, from the source that this file is in; docs/service.md has the rest.
#   packaging/install.sh                 install, or bring up to date: what is configured and kept stays
#   packaging/install.sh --uninstall     take it away; /etc/skerry and /var/lib/skerry stay, with --purge they go too
#   --python PROGRAM   the Python for /opt/skerry, 3.11 or newer (python3)
#   --ready-made       /opt/skerry is there already, made elsewhere: nothing is downloaded
#   --no-start         neither enable nor start it
#   --root DIR         into DIR in place of /: no user is made and systemd is told nothing
set -eu
umask 022

root='' python=python3 ready_made='' start=yes uninstall='' purge=''
source=$(cd "$(dirname "$0")/.." && pwd)

say() { echo "install: $*" >&2; }
fail() { say "$*"; exit 1; }
wrong() { say "$*; packaging/install.sh --help"; exit 2; }

while [ $# -gt 0 ]; do
    case $1 in
        --uninstall) uninstall=yes ;;
        --purge) purge=yes ;;
        --ready-made) ready_made=yes ;;
        --no-start) start='' ;;
        --python) [ -n "${2-}" ] || wrong "--python needs a program"; python=$2; shift ;;
        --root) [ -n "${2-}" ] || wrong "--root needs a directory"; mkdir -p "$2"; root=$(cd "$2" && pwd); shift ;;
        -h | --help) sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) wrong "there is no option $1" ;;
    esac
    shift
done
[ "$root" != / ] || root=''
[ -z "$purge" ] || [ -n "$uninstall" ] || wrong "--purge goes with --uninstall"
[ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "it writes to /opt, /etc and /var/lib: run it as root"

program=$root/opt/skerry etc=$root/etc/skerry kept=$root/var/lib/skerry
unit=$root/etc/systemd/system/skerry.service command=$root/usr/local/bin/skerry
man=$root/usr/local/share/man/man1/skerry.1 completion=$root/usr/local/share/bash-completion/completions/skerry
systemd() { [ -n "$root" ] || [ ! -d /run/systemd/system ] || systemctl "$@"; }

if [ -n "$uninstall" ]; then
    if [ -e "$unit" ]; then systemd disable --now skerry; fi
    rm -rf "$unit" "$program" "$man" "$completion"
    if [ -L "$command" ]; then rm -f "$command"; fi
    systemd daemon-reload
    if [ -n "$purge" ]; then
        rm -rf "$etc" "$kept"
        if [ -z "$root" ] && getent passwd skerry >/dev/null; then userdel skerry; fi
        say "it is gone, with all that was configured and kept"
    else
        say "it is gone; $etc and $kept are still there"
    fi
    exit 0
fi

[ -f "$source/requirements/run.txt" ] || fail "$source is not the source of skerry: run this file where it is in the source"
if [ -z "$root" ] && ! getent passwd skerry >/dev/null; then
    useradd --system --user-group --home-dir /var/lib/skerry --shell /usr/sbin/nologin skerry
fi

if [ -n "$ready_made" ]; then
    [ -x "$program/bin/skerry" ] || fail "there is no $program/bin/skerry: leave --ready-made out"
else
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$python is not Python 3.11 or newer: name one with --python"
    [ -x "$program/bin/python" ] || "$python" -m venv "$program" || {
        rm -rf "$program"
        fail "cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv"
    }
    pip() { "$program/bin/python" -m pip --disable-pip-version-check --no-input install --quiet "$@"; }
    say "packages, each checked against its hash, into $program"
    pip --require-hashes --only-binary :all: -r "$source/requirements/run.txt"
    pip --no-build-isolation --no-deps --force-reinstall "$source"
fi
mkdir -p "$(dirname "$command")" "$(dirname "$unit")" "$(dirname "$man")" "$(dirname "$completion")"
if [ -L "$command" ] || [ ! -e "$command" ]; then ln -sfn "$program/bin/skerry" "$command"; fi
install -m 0644 "$source/packaging/skerry.1" "$man"
_SKERRY_COMPLETE=source_bash "$program/bin/skerry" >"$completion"

install -d -m 0755 "$etc"
install -d -m 0700 "$kept"
if [ ! -e "$etc/skerry.toml" ]; then
    fresh=$(mktemp -d)
    trap 'rm -rf "$fresh"' EXIT
    "$program/bin/skerry" --quiet init "$fresh"
    sed -i "s|^data_dir = \"./data\" *|data_dir = \"$kept\" |" "$fresh/skerry.toml"
    grep -q "^data_dir = \"$kept\"" "$fresh/skerry.toml" || fail "the fresh skerry.toml has no data_dir to set"
    install -m 0640 "$fresh/skerry.toml" "$etc/skerry.toml"
    say "wrote $etc/skerry.toml: look through it"
fi
if [ -z "$root" ]; then
    chown root:skerry "$etc/skerry.toml"
    chown skerry:skerry "$kept"
fi
"$program/bin/skerry" --quiet --config "$etc/skerry.toml" config check || fail "mend $etc/skerry.toml, then run this again: nothing was started"

install -m 0644 "$source/packaging/skerry.service" "$unit"
systemd daemon-reload
if [ -n "$root" ] || [ ! -d /run/systemd/system ]; then
    say "installed; systemd does not run here and was told nothing"
elif [ -n "$start" ]; then
    systemctl enable skerry
    systemctl restart skerry
    say "it runs: sudo -u skerry skerry --config /etc/skerry/skerry.toml status"
else
    say "installed; start it with: systemctl enable --now skerry"
fi
