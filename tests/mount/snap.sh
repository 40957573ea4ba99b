#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# snap.sh - .snap: take, look, rename and delete with mkdir, ls, mv and rmdir.
. "$(dirname "$0")/lib.sh"

make_pool
mount_pool
cd "$M" || exit 99

mkdir -p d/sub
head -c 3M /dev/urandom >d/data
echo one >d/sub/small
ln -s data d/link
old=$(sum d/data)

same ".snap is hidden" d "$(ls -A)"
check "but there" test -d .snap
same "and empty" "" "$(ls -A .snap)"
refuse "no name like that" "File exists" mkdir .snap
refuse "no files in it" "Read-only file system" touch .snap/x
refuse "a restore point that is not there" "No such file" ls .snap/nope

check "mkdir takes one" mkdir .snap/first
check "of a directory" mkdir d/.snap/second
same "the root shows its own" first "$(ls .snap)"
same "a directory shows both, oldest first" "first second" \
	"$(ls -U d/.snap | paste -sd' ')"

# Changes by write, truncate, mapping and removal
"$PYTHON" - <<'EOF' || fail "changes"
import mmap, os
fd = os.open("d/data", os.O_RDWR)
m = mmap.mmap(fd, 0)
m[:5] = b"store"
os.pwrite(fd, b"write", 1_000_000)
os.mkdir(".snap/third")
m[:5] = b"later"
assert open(".snap/third/d/data", "rb").read(5) == b"store"
os.close(fd)
EOF
rm d/sub/small
echo two >d/sub/other
for s in .snap/first/d d/.snap/first d/.snap/second; do
	same "content in $s" "$old" "$(sum $s/data)"
	same "names in $s" small "$(ls $s/sub)"
	same "small in $s" one "$(cat $s/sub/small)"
	same "link in $s" data "$(readlink $s/link)"
done
same "below, what is there now" "first second third" \
	"$(ls -U d/.snap | paste -sd' ')"
same "a directory below that" "small" "$(ls d/sub/.snap/first)"
[ "$(stat -c %i d/data)" != "$(stat -c %i .snap/first/d/data)" ] ||
	fail "inode numbers are the same"
ok "inode numbers are distinct"

# Read-only
ro="Read-only file system"
s=.snap/first/d
refuse "write" "$ro" dd if=/dev/zero of=$s/data count=1 conv=notrunc
refuse "create" "$ro" touch $s/new
refuse "unlink" "$ro" rm -f $s/data
refuse "mkdir" "$ro" mkdir $s/new
refuse "rmdir" "$ro" rmdir $s/sub
refuse "rename inside" "$ro" mv $s/data $s/data2
refuse "rename out of it" "$ro" "$PYTHON" -c \
	'import os; os.rename(".snap/first/d/data", "x")'
refuse "link out of it" "cross-device" ln $s/data x
refuse "chmod" "$ro" chmod 600 $s/data
refuse "xattr" "$ro" "$PYTHON" -c \
	'import os; os.setxattr(".snap/first/d/data", "user.a", b"")'
refuse "truncate" "$ro" truncate -s 0 $s/data
refuse "no .snap inside" "No such file" ls $s/.snap
refuse ".snap does not go away" "busy" "$PYTHON" -c \
	'import os; os.rmdir(".snap")'
refuse "nor under another name" "busy" "$PYTHON" -c \
	'import os; os.rename(".snap", "x")'

# Copies out of it
cp $s/data restored
same "cp out of it" "$old" "$(sum restored)"
cp -r .snap/first/d d2
same "cp -r out of it" "$old" "$(sum d2/data)"

# Names
check "mv" mv .snap/first .snap/renamed
same "mv shows" "renamed third" "$(ls -U .snap | paste -sd' ')"
same "below as well" "renamed second third" "$(ls -U d/.snap | paste -sd' ')"
refuse "the name is taken" "File exists" mkdir .snap/renamed
refuse "and not by mv either" "File exists" "$PYTHON" -c \
	'import os; os.rename(".snap/renamed", ".snap/third")'
refuse "a name that is too long" "File name too long" \
	mkdir ".snap/$(printf %0201d 0)"
check "the longest name" mkdir ".snap/$(printf %0200d 0)"
check "goes" rmdir ".snap/$(printf %0200d 0)"
refuse "not through another directory" "not permitted" rmdir d/.snap/renamed

# Deleting, also with a file in it open
"$PYTHON" - <<'EOF' || fail "deleting"
import os
fd = os.open(".snap/renamed/d/data", os.O_RDONLY)
os.pread(fd, 100, 0)
os.rmdir(".snap/renamed")
os.close(fd)
EOF
same "rmdir" third "$(ls .snap)"
refuse "its contents are gone" "No such file" cat .snap/renamed/d/sub/small
check "rmdir of a directory's" rmdir d/.snap/second
check "and of the last" rmdir .snap/third
same "all gone" "" "$(ls .snap d/.snap | grep -v :)"

# Listed when wanted
cd / || exit 99
unmount_pool
mount_pool -o snapdir=visible
same "snapdir=visible" "$(printf '.snap\nd\nd2\nrestored')" "$(ls -A "$M")"
mkdir "$M/.snap/x"
same "visible, not inside" "$(printf 'd\nd2\nrestored')" "$(ls -A "$M/.snap/x")"
unmount_pool
mount_pool -o ro
refuse "ro: no write" "$ro" touch "$M/new"
refuse "ro: no restore point" "$ro" mkdir "$M/.snap/y"
same "ro: restore points can be read" "$old" "$(sum "$M/.snap/x/restored")"
unmount_pool
