# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# lib.sh - what the tests of the mounted filesystem share; to be sourced.
#
# A test works in a directory of its own: the one that tests/mount/run made for it
# (MSNAP_TMP), or one that is made here, so that a test can be run by hand:
#
#     MSNAP_BUILD=. tests/mount/basic.sh
#
# P is the pool, M the mount point.  Each check prints a line; the first that
# fails ends the test.

set -u

PYTHON=${PYTHON:-/usr/bin/python3}
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

if ! [ -c /dev/fuse ]; then
	echo "skipped: there is no /dev/fuse"
	exit 77
fi
if [ -n "${MSNAP_BUILD:-}" ]; then
	PATH=$(cd "$MSNAP_BUILD" && pwd):$PATH
fi

own_tmp=
if [ -z "${MSNAP_TMP:-}" ]; then
	MSNAP_TMP=$(mktemp -d "${TMPDIR:-/var/tmp}/memsnapfs-test.XXXXXX") ||
		exit 99
	own_tmp=yes
fi
export MSNAP_TMP PATH PYTHON tests
P=$MSNAP_TMP/pool
M=$MSNAP_TMP/mnt
export P M
mkdir -p "$M"
cd "$MSNAP_TMP" || exit 99

is_mounted()
{
	grep -q " $M fuse.memsnapfs " /proc/self/mounts
}

wait_mounted()
{
	local i

	for ((i = 0; i < 500; i++)); do
		is_mounted && break
		sleep 0.02
	done
}

cleanup()
{
	cd /
	while is_mounted; do
		umount "$M" 2>/dev/null || umount -l "$M" || break
	done
	(wait_gone)
	[ -z "$own_tmp" ] || rm -rf "$MSNAP_TMP"
}
trap cleanup EXIT
trap 'exit 99' HUP INT TERM

ok()
{
	echo "ok: $*"
}

fail()
{
	echo "FAILED: $*" >&2
	exit 1
}

# check TEXT COMMAND...: the command must succeed.
check()
{
	local text=$1
	shift
	"$@" || fail "$text: $*"
	ok "$text"
}

# refuse TEXT WORDS COMMAND...: it must fail, and say WORDS (an error's text).
refuse()
{
	local text=$1 words=$2 out
	shift 2
	if out=$("$@" 2>&1); then
		fail "$text: $* succeeded"
	fi
	case $out in
	*"$words"*) ok "$text" ;;
	*) fail "$text: expected \"$words\", got: $out" ;;
	esac
}

# same TEXT WANT GOT
same()
{
	[ "$2" = "$3" ] || fail "$1: expected \"$2\", got \"$3\""
	ok "$1"
}

# The pid of the daemon that serves M.
daemon()
{
	pgrep -f "mount.memsnapfs $P $M" | head -n 1
}

# umount(8) returns before the daemon has ended.
wait_gone()
{
	local i
	for ((i = 0; i < 3000; i++)); do
		[ -n "$(daemon)" ] || return 0
		sleep 0.02
	done
	fail "the daemon is still there"
}

# Direct where this user may and where files beside the pool can share its blocks.
expected_mode()
{
	local mode=cached

	head -c 4096 /dev/zero >"$MSNAP_TMP/share.a"
	if [ "$(id -u)" = 0 ] && cp --reflink=always "$MSNAP_TMP/share.a" "$MSNAP_TMP/share.b" 2>/dev/null
	then
		mode=direct
	fi
	rm -f "$MSNAP_TMP/share.a" "$MSNAP_TMP/share.b"
	echo "$mode"
}

make_pool()
{
	mkfs.memsnapfs -f -s "${1:-256M}" "$P" >/dev/null || fail "mkfs"
}

mount_pool()
{
	mount.memsnapfs "$P" "$M" "$@" || fail "mount"
	is_mounted || fail "it is not mounted"
}

unmount_pool()
{
	umount "$M" || fail "umount"
	wait_gone
}

sum()
{
	sha256sum <"$1" | cut -d' ' -f1
}
