#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# user.sh - an ordinary user mounts a pool of his own, through fusermount3.

# Where /dev/fuse is for root only, root shows the test one that is for all.
if [ "$(id -u)" = 0 ] && [ -c /dev/fuse ] && [ -z "${MSNAP_OWN_DEV:-}" ] &&
	[ "$(stat -c %a /dev/fuse)" != 666 ]; then
	MSNAP_OWN_DEV=yes exec unshare -m bash "$0"
fi
. "$(dirname "$0")/lib.sh"

if ! command -v fusermount3 >/dev/null; then
	echo "skipped: there is no fusermount3"
	exit 77
fi

user()
{
	if [ "$(id -u)" = 0 ]; then
		setpriv --reuid=65534 --regid=65534 --clear-groups \
			env HOME="$MSNAP_TMP" PATH="$PATH" bash -c "$1"
	else
		bash -c "$1"
	fi
}

if [ "$(id -u)" = 0 ]; then
	chown 65534:65534 "$MSNAP_TMP" "$M"
	chmod 755 "$MSNAP_TMP"
	# The programs may lie where a user cannot reach them.
	mkdir bin
	for program in mkfs.memsnapfs mount.memsnapfs; do
		cp "$(command -v $program)" bin/
	done
	PATH=$MSNAP_TMP/bin:$PATH
	if [ -n "${MSNAP_OWN_DEV:-}" ]; then
		mknod fuse c 10 229 && chmod 666 fuse &&
			mount --bind fuse /dev/fuse || exit 77
	fi
fi

user "mkfs.memsnapfs -f -s 64M '$P'" >/dev/null || fail "mkfs"

# What fusermount3 says is in our one line.
if [ "$(id -u)" = 0 ]; then
	mkdir roots
	out=$(user "mount.memsnapfs '$P' '$MSNAP_TMP/roots'" 2>&1) &&
		fail "mount on a directory of root's"
	same "mount on a directory of root's" "mount.memsnapfs: cannot mount on $MSNAP_TMP/roots: fusermount3: user has no write access to mountpoint $MSNAP_TMP/roots" \
		"$out"
	rmdir roots
fi
user "mount.memsnapfs '$P' '$M'" || fail "mount"
ok "mounted"
user "echo hello >'$M/file' && mkdir '$M/.snap/s' && echo bye >'$M/file'" ||
	fail "use"
same "restore point" hello "$(user "cat '$M/.snap/s/file'")"
same "now" bye "$(user "cat '$M/file'")"

# A mapping of a file that its owner may not open any more: still in the snapshot
user "'$PYTHON' -" <<'EOF' || fail "mapped"
import mmap, os
m = os.environ["M"]
fd = os.open(m + "/mapped", os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 1 << 20)
mem = mmap.mmap(fd, 1 << 20)
for mode in (0o600, 0o000, 0o200):
    os.chmod(m + "/mapped", mode)
    word = b"%04o" % mode
    mem[600_000:600_004] = word
    os.mkdir(m + "/.snap/m%o" % mode)
    os.chmod(m + "/mapped", 0o600)
    mem[600_000:600_004] = b"late"
    # what is in the restore point has the mode of then: look as its owner can
    if mode == 0o600:
        with open(m + "/.snap/m600/mapped", "rb") as f:
            f.seek(600_000)
            assert f.read(4) == word, (mode, f.read(4))
os._exit(0)
EOF
ok "mapped"
if [ "$(id -u)" = 0 ]; then
	refuse "others stay out" "denied" ls "$M"
	user "chmod 600 '$M'/mapped"
fi
user "fusermount3 -u '$M'" || fail "fusermount3 -u"
wait_gone

# allow_other and root: modes of files are obeyed, also by our own calls
if [ "$(id -u)" = 0 ]; then
	mount_pool -o allow_other
	mkdir "$M/rootdir"
	echo secret >"$M/rootdir/secret"
	chmod 700 "$M/rootdir"
	chmod 755 "$M"
	for m in 0 200; do
		same "stored in a mapping of mode $m" "$(printf %04o 0$m)" \
			"$(dd if="$M/.snap/m$m/mapped" bs=1 skip=600000 count=4 status=none)"
	done
	refuse "mode bits" "denied" user "cat '$M/rootdir/secret'"
	chown 0:0 "$M"
	refuse "mkdir in .snap of another's directory" "denied" \
		user "mkdir '$M/.snap/mine'"
	mkdir "$M/his"
	chown 65534 "$M/his"
	check "mkdir in .snap of one's own" user "mkdir '$M/his/.snap/mine'"
	check "rmdir there" user "rmdir '$M/his/.snap/mine'"
	mkdir "$M/.snap/roots"
	refuse "rmdir of root's" "not permitted" user "rmdir '$M/his/.snap/roots'"
	unmount_pool
fi
