#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Rollback of files and directories that are open and mapped."""

import mmap
import os
import signal
import struct
import sys
import time

sys.dont_write_bytecode = True
from mountlib import (Mount, NO_SAFETY, RECURSIVE, REPLACE, SNAP_MORE, clone,
                      read, rollback, snap, write)

MIB = 1 << 20


def check_file(d):
    """One file, mapped, larger and smaller than it was."""
    path = d + "/file"
    old = os.urandom(2 * MIB)
    write(path, old)
    assert snap(d, "good", file="file") == "good"
    fd = os.open(path, os.O_RDWR)
    ino = os.fstat(fd).st_ino
    mem = mmap.mmap(fd, 2 * MIB)
    mem[100:105] = b"break"
    os.pwrite(fd, b"more", 2 * MIB)
    broken = mem[:]
    safety = rollback(d, "good", file="file")
    assert safety.startswith("before-rollback-"), safety
    assert mem[:] == old, "the mapping shows old contents"
    assert os.fstat(fd).st_size == 2 * MIB
    assert os.fstat(fd).st_ino == ino == os.stat(path).st_ino
    # the undo can be undone
    rollback(d, safety, file="file", flags=NO_SAFETY)
    assert mem[:] == broken and os.fstat(fd).st_size == 2 * MIB + 4
    rollback(d, "good", file="file", flags=NO_SAFETY)
    # a file that was cut off grows back under its mapping
    os.ftruncate(fd, 4096)
    rollback(d, "good", file="file", flags=NO_SAFETY)
    assert mem[MIB:MIB + 100] == old[MIB:MIB + 100]
    # stores after it count
    mem[0:5] = b"after"
    mem.flush()
    assert read(path)[:5] == b"after"
    mem.close()
    os.close(fd)
    # deleted: it comes back
    os.unlink(path)
    rollback(d, "good", file="file")
    assert read(path) == old and os.stat(path).st_ino == ino
    print("ok: a file")


def check_directory(d):
    """Names made, removed, renamed and replaced."""
    top = d + "/dir"
    os.makedirs(top + "/sub/deep")
    write(top + "/a", b"a" * 5000)
    write(top + "/sub/b", b"b" * 9000)
    os.symlink("a", top + "/link")
    snap(top, "point")
    keep = os.open(top + "/a", os.O_RDWR)
    kept = mmap.mmap(keep, 5000)
    kept[:3] = b"new"
    os.unlink(top + "/sub/b")
    os.rmdir(top + "/sub/deep")
    os.rename(top + "/a", top + "/sub/moved")
    write(top + "/later", b"later")
    later = os.open(top + "/later", os.O_RDONLY)
    os.unlink(top + "/link")
    write(top + "/link", b"a file now")
    assert os.path.isfile(top + "/link")
    safety = rollback(top, "point")
    assert sorted(os.listdir(top)) == ["a", "link", "sub"], os.listdir(top)
    assert sorted(os.listdir(top + "/sub")) == ["b", "deep"]
    assert not os.path.exists(top + "/later")
    assert not os.path.exists(top + "/sub/moved")
    assert read(top + "/a") == b"a" * 5000 and kept[:3] == b"aaa"
    assert read(top + "/sub/b") == b"b" * 9000
    assert os.readlink(top + "/link") == "a", os.readlink(top + "/link")
    assert os.fstat(keep).st_ino == os.stat(top + "/a").st_ino
    os.close(later)
    rollback(top, safety)
    assert sorted(os.listdir(top)) == ["later", "link", "sub"]
    assert read(top + "/later") == b"later"
    assert read(top + "/sub/moved")[:3] == b"new" == kept[:3]
    os.close(keep)
    print("ok: a directory")


def check_dead_directory(d):
    """One that was removed while something that had been in it was in use."""
    top = d + "/dead"
    os.makedirs(top + "/sub")
    write(top + "/sub/file", b"kept open")
    fd = os.open(top + "/sub/file", os.O_RDONLY)
    os.unlink(top + "/sub/file")
    snap(top, "empty")
    for _ in range(2):
        os.rmdir(top + "/sub")
        rollback(top, "empty", flags=NO_SAFETY)
        os.mkdir(top + "/sub/new")
        write(top + "/sub/new/file", b"new")
        assert os.listdir(top + "/sub") == ["new"]
        assert os.listdir(top + "/sub/.snap") == ["empty"]
        rollback(top, "empty", flags=NO_SAFETY)
        assert os.listdir(top + "/sub") == []
    assert os.pread(fd, 20, 0) == b"kept open"
    os.close(fd)
    print("ok: a directory that was removed")


def check_root(d):
    """The whole filesystem."""
    write(d + "/x", b"1" * 10000)
    snap(d, "whole")
    fd = os.open(d + "/x", os.O_RDWR)
    mem = mmap.mmap(fd, 10000)
    mem[:4] = b"2222"
    os.mkdir(d + "/y")
    rollback(d, "whole")
    assert mem[:4] == b"1111" and read(d + "/x") == b"1" * 10000
    assert not os.path.exists(d + "/y")
    os.close(fd)
    print("ok: the root")


def count(path):
    fd = os.open(path, os.O_RDWR)
    mem = mmap.mmap(fd, 64 * 4096)
    n = 1
    while True:
        n += 1
        for page in range(64):
            struct.pack_into("Q", mem, page * 4096, n)


def check_writer(d):
    """A mapped writer at full speed: nothing of before comes back afterwards."""
    path = d + "/race"
    write(path, bytes(64 * 4096))
    snap(d, "zero", file="race")
    for _ in range(10):
        pid = os.fork()
        if not pid:
            count(path)
        time.sleep(0.05)
        rollback(d, "zero", file="race", flags=NO_SAFETY)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        cached = read(path)
        # what is cached and what is in the pool must be one thing
        snap(d, "look", file="race")
        assert read(d + "/.snap/look/race") == cached
        os.rmdir(d + "/.snap/look")
        rollback(d, "zero", file="race", flags=NO_SAFETY)
        assert read(path) == bytes(64 * 4096)
    print("ok: a writer at full speed")


def fails(name, function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except OSError as error:
        assert type(error).__name__ == name or \
            errno_name(error) == name, error
        return
    assert False, "no " + name


def errno_name(error):
    import errno
    return errno.errorcode[error.errno]


def check_calls(d):
    """Clones, groups, names, and what is refused."""
    top = d + "/calls"
    os.makedirs(top + "/one")
    os.makedirs(top + "/two")
    write(top + "/one/f", b"one")
    write(top + "/two/f", b"two")
    group = snap(top + "/one", flags=SNAP_MORE)
    assert snap(top + "/two", "both", group=group) == "both"
    assert read(top + "/one/.snap/both/f") == b"one"
    assert read(top + "/two/.snap/both/f") == b"two"
    fails("ESTALE", snap, top + "/two", "again", group=group)
    assert not os.path.exists(top + "/.snap/both")

    auto = [snap(top) for _ in range(3)]
    assert auto[0][8] == "T" and len(set(auto)) == 3, auto
    fails("EEXIST", snap, top, auto[0])
    fails("EINVAL", snap, top, "a/b")
    fails("EINVAL", snap, top, "..")
    fails("ENAMETOOLONG", snap, top, "x" * 201)
    fails("ENOENT", snap, top, "x", file="nothing")
    fails("EISDIR", snap, top, "x", file="one")
    fails("EROFS", snap, top + "/.snap", "x")
    fails("EROFS", snap, top + "/.snap/" + auto[0], "x")
    fails("ENOENT", rollback, top, "nothing")

    write(top + "/src", os.urandom(MIB))
    os.chmod(top + "/src", 0o640)
    assert clone(top + "/src", top + "/dst") == os.stat(top + "/dst").st_ino
    assert read(top + "/dst") == read(top + "/src")
    assert os.stat(top + "/dst").st_mode == os.stat(top + "/src").st_mode
    fails("EEXIST", clone, top + "/src", top + "/dst")
    write(top + "/src", b"new")
    held = os.open(top + "/dst", os.O_RDONLY)
    clone(top + "/src", top + "/dst", REPLACE)
    assert read(top + "/dst") == b"new"
    assert os.fstat(held).st_nlink == 0 and os.fstat(held).st_size == MIB
    os.close(held)
    fails("EISDIR", clone, top + "/one", top + "/three")
    clone(top + "/one", top + "/three", RECURSIVE)
    assert read(top + "/three/f") == b"one"
    clone(top + "/.snap/" + auto[0] + "/two", top + "/four", RECURSIVE)
    assert read(top + "/four/f") == b"two"
    fails("EROFS", clone, top + "/src", top + "/.snap/" + auto[0] + "/x")
    print("ok: calls")


def main():
    with Mount("512M") as m:
        for check in (check_file, check_directory, check_dead_directory,
                      check_root, check_writer, check_calls):
            check(m.dir)


if __name__ == "__main__":
    sys.exit(main())
