#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# basic.sh - what programs expect of a filesystem.
. "$(dirname "$0")/lib.sh"

make_pool
mount_pool
cd "$M" || exit 99

grep " $M " /proc/self/mounts | grep -q "^$P $M fuse.memsnapfs " ||
	fail "the line of mount(8)"
ok "mounted"
same "empty" "" "$(ls -A)"

# Files and directories
echo hello >a
same "content" hello "$(cat a)"
echo world >>a
same "append" "hello world" "$(paste -sd' ' a)"
mkdir -p d/e/f
check "rmdir" rmdir d/e/f
refuse "rmdir of a full directory" "not empty" rmdir d
refuse "mkdir over a file" "File exists" mkdir a
refuse "rmdir of a file" "Not a directory" rmdir a
refuse "rm of a directory" "Is a directory" rm d
refuse "a long name" "File name too long" touch "$(printf %0256d 0)"
check "a name of 255 bytes" touch "$(printf %0255d 0)"
rm "$(printf %0255d 0)"
same "links of a directory" 3 "$(stat -c %h d)"

# Modes, owners, times
umask 022
touch m
same "umask" 644 "$(stat -c %a m)"
chmod 4755 m
same "chmod" 4755 "$(stat -c %a m)"
touch -d '2001-02-03 04:05:06.123456789 UTC' m
same "utimens" 981173106.123456789 "$(stat -c %.9Y m)"
if [ "$(id -u)" = 0 ]; then
	chown 12:34 m
	same "chown" 12:34 "$(stat -c %u:%g m)"
	same "chown clears setuid" 755 "$(stat -c %a m)"
	mkdir sg
	chown 0:34 sg
	chmod 2775 sg
	mkdir sg/sub
	touch sg/file
	same "setgid directory, sub" 34:2755 "$(stat -c %g:%a sg/sub)"
	same "setgid directory, file" 34:644 "$(stat -c %g:%a sg/file)"
	check "mknod" mknod dev c 1 3
	same "device" 1:3:character "$(stat -c '%t:%T:%F' dev | cut -d' ' -f1)"
fi
check "fifo" mkfifo fifo

# Links
ln a b
same "hard link" "2 $(stat -c %i a)" "$(stat -c '%h %i' b)"
echo more >>b
same "hard link, content" 3 "$(wc -l <a)"
rm a
same "unlink of one" 1 "$(stat -c %h b)"
ln -s "some/where" s
same "symlink" some/where "$(readlink s)"
same "size of a symlink" 10 "$(stat -c %s s)"

# Rename
mv b c
check "rename" test ! -e b -a -e c
echo other >o
mv o c
same "rename over" other "$(cat c)"
mkdir r1 r2
touch r1/x
mv -T r1 r2
check "rename of a directory over an empty one" test -e r2/x
refuse "rename into itself" "subdirectory of itself" mv r2 r2/y
"$PYTHON" - <<'EOF' || fail "renameat2"
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
def rename2(a, b, flags):
    if libc.renameat2(-100, a.encode(), -100, b.encode(), flags):
        return ctypes.get_errno()
    return 0
open("n1", "w").write("1"); open("n2", "w").write("2")
assert rename2("n1", "n2", 1) == errno.EEXIST
assert rename2("n1", "n3", 1) == 0
assert rename2("n3", "n2", 2) == 0
assert open("n3").read() == "2" and open("n2").read() == "1"
os.mkdir("xd"); os.mkdir("xd/sub")
before = os.stat(".").st_nlink
assert rename2("xd/sub", "n2", 2) == 0
assert os.path.isdir("n2") and os.path.isfile("xd/sub")
assert os.stat("xd").st_nlink == 2, os.stat("xd").st_nlink
assert os.stat(".").st_nlink == before + 1
EOF
ok "renameat2 NOREPLACE and EXCHANGE"

# Contents
"$PYTHON" - <<'EOF' || fail "contents"
import errno, mmap, os
fd = os.open("f", os.O_RDWR | os.O_CREAT, 0o644)
os.pwrite(fd, b"x" * 100, 10_000_000)
assert os.fstat(fd).st_size == 10_000_100
assert os.fstat(fd).st_blocks * 512 < 100_000
assert os.pread(fd, 10, 5_000_000) == bytes(10)
# Before Linux 6.16 a file that is open for writing shows no holes.
holes = os.lseek(fd, 0, os.SEEK_HOLE) == 0
assert holes or tuple(map(int, os.uname().release.split(".")[:2])) < (6, 16)
if holes:
    assert os.lseek(fd, 0, os.SEEK_DATA) == 10_000_000 // 4096 * 4096
assert os.lseek(fd, 10_000_000, os.SEEK_HOLE) == 10_000_100
try:
    os.lseek(fd, 10_000_100, os.SEEK_DATA)
    assert False
except OSError as e:
    assert e.errno == errno.ENXIO
os.ftruncate(fd, 50_000)
assert os.fstat(fd).st_size == 50_000 and os.pread(fd, 100, 49_990) == bytes(10)
os.ftruncate(fd, 5)
os.pwrite(fd, b"abcde", 0)
os.ftruncate(fd, 3)
os.ftruncate(fd, 8)
assert os.pread(fd, 100, 0) == b"abc" + bytes(5)

# mapped, in a hole, not written back: data for lseek all the same
os.ftruncate(fd, 1 << 20)
m = mmap.mmap(fd, 1 << 20)
m[300_000:300_005] = b"store"
assert os.lseek(fd, 8192, os.SEEK_DATA) <= 300_000
# through another descriptor, and through read(2)
fd2 = os.open("f", os.O_RDONLY)
assert os.pread(fd2, 5, 300_000) == b"store"
os.pwrite(fd, b"WRITE", 300_000)
assert m[300_000:300_005] == b"WRITE"
m.flush()
m.close()

# a write of several MiB, and its end that is not aligned
big = os.urandom(5 * 1024 * 1024 + 123)
assert os.pwrite(fd, big, 777) == len(big)
assert os.pread(fd2, len(big) + 1000, 777) == big
os.close(fd2)

# a file without a name lives on
u = os.open("u", os.O_RDWR | os.O_CREAT)
os.write(u, b"alive")
os.unlink("u")
assert os.fstat(u).st_nlink == 0
assert os.pread(u, 10, 0) == b"alive"
os.write(u, b" and well")
assert os.pread(u, 100, 0) == b"alive and well"
os.close(u)
os.close(fd)

# O_TMPFILE: where libfuse knows it
try:
    t = os.open(".", os.O_RDWR | os.O_TMPFILE, 0o600)
    os.write(t, b"tmp")
    # With a directory Python calls linkat(2), which can follow.
    fds = os.open("/proc/self/fd", os.O_RDONLY)
    os.link(str(t), "linked", src_dir_fd=fds, follow_symlinks=True)
    os.close(fds)
    os.close(t)
    assert open("linked").read() == "tmp"
except OSError as e:
    assert e.errno in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EISDIR), e

# O_DIRECT
d = os.open("direct", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
page = mmap.mmap(-1, 8192)
page[:] = b"D" * 8192
assert os.write(d, page) == 8192
assert os.preadv(d, [page], 4096) == 4096
os.close(d)

# O_APPEND, O_TRUNC, O_EXCL
with open("ap", "w") as f: f.write("one")
with open("ap", "a") as f: f.write("two")
assert open("ap").read() == "onetwo"
with open("ap", "w") as f: f.write("x")
assert os.stat("ap").st_size == 1
try:
    os.open("ap", os.O_CREAT | os.O_EXCL)
    assert False
except FileExistsError:
    pass
EOF
ok "contents"

# fallocate
rm -f f
fallocate -l 1M f
same "fallocate" "1048576 2048" "$(stat -c '%s %b' f)"
fallocate -n -o 1M -l 1M f
same "fallocate, keeping the size" 1048576 "$(stat -c %s f)"
head -c 1M /dev/urandom >f
cp f g
fallocate -p -o 4096 -l 8192 f
same "punch" 0 "$(dd if=f bs=4096 skip=1 count=2 status=none | tr -d '\0' | wc -c)"
check "punch leaves the rest" cmp -i 12288 f g
fallocate -z -o 100 -l 100 f
same "zero range" 0 "$(dd if=f bs=1 skip=100 count=100 status=none | tr -d '\0' | wc -c)"
check "zero range leaves the rest" cmp -n 100 f g

# copy_file_range, which cp uses
head -c 20M /dev/urandom >big
before=$(stat -f -c %f .)
cp big big2
check "cp" cmp big big2
after=$(stat -f -c %f .)
[ $((before - after)) -lt 500 ] ||
	fail "cp used $((before - after)) blocks"
ok "cp shares the data"
printf changed | dd of=big2 conv=notrunc bs=1 seek=5000000 status=none
refuse "the copy is one" differ cmp big big2
"$PYTHON" - <<'EOF' || fail "copy_file_range"
import os
s = os.open("big", os.O_RDONLY); d = os.open("part", os.O_RDWR | os.O_CREAT)
assert os.copy_file_range(s, d, 1_000_001, 3, 77) == 1_000_001
assert os.pread(d, 1_000_001, 77) == os.pread(s, 1_000_001, 3)
assert os.copy_file_range(s, d, 100, 20 << 20, 0) == 0
EOF
ok "copy_file_range, not aligned"

# Extended attributes
"$PYTHON" - <<'EOF' || fail "xattrs"
import errno, os
def fails(e, f, *a):
    try:
        f(*a)
    except OSError as x:
        assert x.errno == e, x
        return
    assert False
os.setxattr("g", "user.a", b"1"); os.setxattr("g", "user.b", b"x" * 5000)
assert os.getxattr("g", "user.a") == b"1"
assert os.getxattr("g", "user.b") == b"x" * 5000
assert sorted(os.listxattr("g")) == ["user.a", "user.b"]
fails(errno.EEXIST, os.setxattr, "g", "user.a", b"2", os.XATTR_CREATE)
fails(errno.ENODATA, os.setxattr, "g", "user.c", b"2", os.XATTR_REPLACE)
os.setxattr("g", "user.a", b"", os.XATTR_REPLACE)
assert os.getxattr("g", "user.a") == b""
os.removexattr("g", "user.b")
fails(errno.ENODATA, os.getxattr, "g", "user.b")
fails(errno.ENODATA, os.removexattr, "g", "user.b")
assert os.listxattr("g") == ["user.a"]
EOF
ok "xattrs"

# A large directory
mkdir many
"$PYTHON" - <<'EOF' || fail "a large directory"
import os
names = {"file-%05d" % i for i in range(10000)}
for n in names:
    os.close(os.open("many/" + n, os.O_CREAT | os.O_WRONLY))
assert set(os.listdir("many")) == names
assert len(os.listdir("many")) == 10000
with os.scandir("many") as it:
    seen = [e.name for e in it if e.stat().st_size == 0]
assert sorted(seen) == sorted(names)
# removing while reading
with os.scandir("many") as it:
    for e in it:
        os.unlink(e.path)
assert os.listdir("many") == []
os.rmdir("many")
EOF
ok "10,000 names"

# Locks within the mount
check "flock" flock g true
"$PYTHON" -c '
import fcntl
f = open("g", "r+"); fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)' ||
	fail "lockf"
ok "lockf"

check "fsync" sync g
df . >/dev/null || fail "df"
ok "df"
cd / || exit 99
unmount_pool
ok "unmounted"
