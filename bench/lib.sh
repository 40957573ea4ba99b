# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# lib.sh - what the benchmarks share; to be sourced.
#
# They build nothing: programs are those of MSNAP_BUILD, of ., or of build*/ (make
# bench builds what is missing and calls them).  What they make is in $tmp, which
# make_tmp() makes; everything is taken down at exit.

export LC_ALL=C
name=bench/$(basename "$0")

die()
{
	echo "$name: $*" >&2
	exit 1
}

progress()
{
	echo "... $*" >&2
}

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
find_build()
{
	local try

	for try in "${MSNAP_BUILD:-}" . build build*/ "$top" "$top"/build*/; do
		if [ -n "$try" ] && [ -x "$try/mount.memsnapfs" ]; then
			(cd "$try" && pwd)
			return
		fi
	done
	return 1
}

# need PROGRAM...: of the build.
need()
{
	local program

	build=$(find_build) ||
		die "no programs found: build them, then name the directory in MSNAP_BUILD"
	for program; do
		[ -x "$build/$program" ] ||
			die "$build/$program is missing: make bench builds it"
	done
	PATH=$build:$build/bench:$PATH
}

tmp=
mounts= # in the order in which they were made
unmount()
{
	local tries=0

	while mountpoint -q "$1"; do
		umount "$1" 2>/dev/null && break
		tries=$((tries + 1))
		[ $tries -lt 50 ] || umount -l "$1" || break
		sleep 0.1
	done
}

# What was mounted last goes first: pools are on images.
cleanup()
{
	local at all=

	for at in $mounts; do
		all="$at $all"
	done
	for at in $all; do
		unmount "$at"
	done
	[ -z "$tmp" ] || rm -rf "$tmp"
}

daemon_pid()
{
	msnapfs-info --json "$1" | sed -n 's/^ *"pid": *\([0-9]*\).*/\1/p'
}

# umount(8) returns before the daemon has ended, and its files are gone.
unmount_pool()
{
	local pid

	pid=$(daemon_pid "$1")
	unmount "$1"
	while [ -d "/proc/$pid" ]; do
		sleep 0.05
	done
}

# make_tmp DIR MIB: a directory in DIR, which must have that much room.
make_tmp()
{
	local room

	[ -d "$1" ] || die "$1: no such directory"
	room=$(($(stat -f -c '%a * %S' "$1") / 1048576))
	[ "$room" -ge "$2" ] ||
		die "$1 has $room MiB free, and $2 are needed; --dir chooses another place"
	tmp=$(mktemp -d "$1/memsnapfs-bench.XXXXXX") || exit 1
	results=$tmp/results
	: >"$results"
	trap cleanup EXIT
	trap 'exit 1' HUP INT TERM
}

# Most of what memory is free is written once: that of a virtual machine may come only
# then, and what is measured waits for it.
touch_memory()
{
	local free

	free=$(awk '$1 == "MemFree:" { print int($2 * 0.85) }' /proc/meminfo)
	[ "$(stat -f -c %T "$tmp")" = tmpfs ] || return 0
	progress "memory that is free is touched: $((free >> 10)) MiB"
	head -c "${free}K" /dev/zero >"$tmp/touch"
	rm "$tmp/touch"
}

# mount_image FILESYSTEM MIB [sparse]: on $tmp/host.  Unless it is to be sparse, all of
# the image is written before: else the first store to a block is as slow as the place
# where the image is makes it.
mount_image()
{
	local image=$tmp/image

	if [ -n "${3:-}" ]; then
		truncate -s "$2M" "$image"
	else
		head -c "$2M" /dev/zero >"$image"
	fi || die "no image of $2 MiB"
	case $1 in
	xfs) mkfs.xfs -q -f -K -m reflink=1 "$image" ;;
	btrfs) mkfs.btrfs -q -f -K "$image" ;;
	*) false ;;
	esac || die "no $1 could be made"
	mkdir -p "$tmp/host"
	mount -o loop "$image" "$tmp/host" || die "the image could not be mounted"
	mounts="$mounts $tmp/host"
	rm "$image" # it goes with the mount
}

# mount_pool POOL DIR SIZE [OPTION...]
mount_pool()
{
	local pool=$1 dir=$2 size=$3

	shift 3
	mkdir -p "$dir"
	mkfs.memsnapfs -s "$size" "$pool" >/dev/null || die "no pool of $size"
	mount.memsnapfs "$pool" "$dir" "$@" || die "no mount"
	mounts="$mounts $dir"
}

# The mode that a mount has got.
mode_of()
{
	msnapfs-info --json "$1" | sed -n 's/^ *"mode": "\(.*\)",/\1/p'
}

# Milliseconds that a command takes, with three digits behind the point.
stopwatch()
{
	local start=$EPOCHREALTIME end

	"$@" >&2 || return 1
	end=$EPOCHREALTIME
	awk -v s="$start" -v e="$end" 'BEGIN { printf "%.3f\n", (e - s) * 1000 }'
}

# The median of the lines on standard input.
median()
{
	sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

# machine WHERE: what the figures are of.
machine()
{
	echo "Linux $(uname -r), $(nproc) CPUs ($(sed -n \
		's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)), $1, load $(cut -d' ' -f1 /proc/loadavg) at the end"
}
