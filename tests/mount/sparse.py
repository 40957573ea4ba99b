#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A sparse pool, larger than the filesystem that it is on: what is deleted comes back
there, and when it is full nothing is lost but what nobody was promised.

Its own small filesystem is what on-host made: see full-host.sh.  (Not full-host.py: to
automake, which finds a test by its name without the suffix, that is the same test.)
"""

import errno
import os
import resource
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
from mountlib import (Mount, NO_SAFETY, fails, info, map_file, read, rollback,
                      snap, write)

MIB = 1 << 20
PAGE = 4096


def host_free(m):
    """What is stored is written, or it has no place yet (and no other)."""
    fd = os.open(m.top, os.O_RDONLY)
    os.sync()
    st = os.fstatvfs(fd)
    os.close(fd)
    return st.f_bavail * st.f_frsize


def host_type(m):
    return subprocess.run(["stat", "-f", "-c", "%T", m.top], check=True,
                          stdout=subprocess.PIPE).stdout.decode().strip()


def wait_free(m, what, want):
    for _ in range(300):
        if host_free(m) >= want:
            print("ok: %s: the space is free on the host" % what)
            return
        time.sleep(0.1)
    raise AssertionError("%s: %d MiB are free on the host, not %d" %
                         (what, host_free(m) >> 20, want >> 20))


def check_statfs(m):
    before = host_free(m)
    here = os.statvfs(m.dir)
    assert here.f_bavail * here.f_frsize <= max(before, host_free(m)) + 2 * MIB
    assert here.f_blocks * here.f_frsize > 3 << 30


def check_deleted(m):
    """Written, and stored through a mapping: both come back."""
    snap(m.dir, "empty")
    before = host_free(m)
    write(m.dir + "/written", os.urandom(150 * MIB))
    fd, mem = map_file(m.dir + "/mapped", 100 * MIB)
    for off in range(0, 100 * MIB, MIB):
        mem[off:off + MIB] = os.urandom(MIB)
    mem.flush()
    os.fsync(fd)
    mem.close()
    os.close(fd)
    check_statfs(m)
    assert host_free(m) < before - 240 * MIB
    os.unlink(m.dir + "/written")
    os.unlink(m.dir + "/mapped")
    wait_free(m, "deleted files", before - 20 * MIB)
    check_statfs(m)
    os.rmdir(m.dir + "/.snap/empty")


def check_scattered(m):
    """Every fourth block is another in the restore point, which is deleted: holes of
    one block.  They come back when the host is short of space."""
    path = m.dir + "/scattered"
    write(path, os.urandom(100 * MIB))
    os.sync()
    snap(m.dir, "scattered")
    fd, mem = map_file(path, 100 * MIB)
    for off in range(0, 100 * MIB, 4 * PAGE):
        mem[off:off + 8] = b"%08d" % (off // PAGE)
    want = mem[:]
    mem.close()
    os.close(fd)
    snap(m.dir, "later")
    ballast = os.open(m.top + "/ballast", os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(ballast, 0, host_free(m) - 40 * MIB)
    before = host_free(m)
    os.rmdir(m.dir + "/.snap/scattered")
    # btrfs frees an extent when nothing of it is in use any more.
    if host_type(m) != "btrfs":
        wait_free(m, "scattered blocks", before + 18 * MIB)
    os.close(ballast)
    os.unlink(m.top + "/ballast")
    assert read(path) == want == read(m.dir + "/.snap/later/scattered")
    os.rmdir(m.dir + "/.snap/later")
    os.unlink(path)


def store_until_it_fails(path):
    pid = os.fork()
    if not pid:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        fd, mem = map_file(path, 1 << 30)
        for off in range(0, 1 << 30, PAGE):
            mem[off] = 1
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def fill_with_ballast(m):
    fd = os.open(m.top + "/ballast", os.O_WRONLY | os.O_APPEND)
    for size in MIB, PAGE:
        try:
            while os.write(fd, bytes(size)) == size:
                pass
        except OSError as e:
            assert e.errno == errno.ENOSPC, e
    os.close(fd)
    os.sync()


def check_full(m, kill):
    """Full by a mapped writer, by write(2), and by somebody else."""
    write(m.top + "/ballast", b"")
    write(m.top + "/spare", os.urandom(24 * MIB))
    empty = host_free(m)
    keep = os.urandom(20 * MIB)
    write(m.dir + "/keep", keep)
    write(m.dir + "/more", keep)
    fd, mem = map_file(m.dir + "/open", 8 * MIB)
    mem[:] = keep[:8 * MIB]
    snap(m.dir, "before")
    mem[:8] = b"stored--"
    mem.flush()
    os.fsync(fd)
    status = store_until_it_fails(m.dir + "/mapped")
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGBUS, status
    print("ok: a store through a mapping: SIGBUS")
    out = os.open(m.dir + "/written", os.O_WRONLY | os.O_CREAT)
    with_errors = 0
    for _ in range(500):
        try:
            os.write(out, bytes(MIB))
        except OSError as e:
            assert e.errno == errno.ENOSPC, e
            with_errors += 1
            break
    assert with_errors
    os.close(out)
    print("ok: a write: ENOSPC")
    fill_with_ballast(m)
    # What is there can be read; what can be done without new space is done.
    assert read(m.dir + "/keep") == keep == read(m.dir + "/.snap/before/keep")
    assert read(m.dir + "/.snap/before/open") == keep[:8 * MIB]
    assert mem[:8] == b"stored--"
    check_statfs(m)
    assert not info(m.dir)["read_only"]
    # On btrfs blocks that once were parts of files beside the pool cannot be stored to
    # without other space.
    if host_type(m) != "btrfs":
        os.unlink(m.dir + "/more")
        print("ok: deleting")
    if kill:
        os.kill(info(m.dir)["pid"], signal.SIGKILL)
        while m.is_busy():
            time.sleep(0.01)
        mem[8:16] = b"between-"
        subprocess.run(["umount", "-l", m.dir], check=True)
    else:
        mem.close()
        os.close(fd)
        m.unmount()
    m.mount()
    print("ok: mounted again on a full host" + ", after a kill" * kill)
    want = keep[8:8 * MIB]
    if kill:
        want = b"between-" + want[8:]
    assert read(m.dir + "/open") == b"stored--" + want
    assert read(m.dir + "/keep") == keep == read(m.dir + "/.snap/before/keep")
    assert read(m.dir + "/.snap/before/open") == keep[:8 * MIB]
    if kill:
        mem.close()
        os.close(fd)
    # Deleting works, and then there is room again: on the host, for everybody.  What was
    # kept for it may be used up by now, so there must be some elsewhere.
    os.truncate(m.top + "/spare", 0)
    host_free(m)
    for name in "mapped", "written", "more":
        if os.path.exists(m.dir + "/" + name):  # nobody synced it before the kill
            os.unlink(m.dir + "/" + name)
    os.rmdir(m.dir + "/.snap/before")
    os.unlink(m.dir + "/open")
    os.unlink(m.top + "/ballast")
    wait_free(m, "what filled it", empty - 90 * MIB)
    assert not info(m.dir)["read_only"]
    # A mount of a full host may have found no room for views.
    m.unmount()
    m.mount()
    assert info(m.dir)["mode"] == "direct"
    write(m.dir + "/more", keep * 5)
    fd, mem = map_file(m.dir + "/mapped", 50 * MIB)
    mem[:20 * MIB] = keep
    snap(m.dir, "after")
    assert read(m.dir + "/.snap/after/mapped")[:20 * MIB] == keep
    assert read(m.dir + "/more") == keep * 5
    mem.close()
    os.close(fd)
    for name in "mapped", "more", "keep":
        os.unlink(m.dir + "/" + name)
    os.rmdir(m.dir + "/.snap/after")
    wait_free(m, "all of it", empty - 60 * MIB)


def main():
    with Mount("4G", ["-o", "commit=1"]) as m:
        assert info(m.dir)["mode"] == "direct", info(m.dir)["mode_why"]
        check_deleted(m)
        check_scattered(m)
        for kill in False, True:
            check_full(m, kill)
        m.unmount()
        # Nothing is wrong with what is left
        subprocess.run(["fsck.memsnapfs", "-n", m.pool], check=True,
                       stdout=subprocess.DEVNULL)
        m.mount()


if __name__ == "__main__":
    sys.exit(main())
