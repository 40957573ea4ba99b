#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What fails below a mounted filesystem: memory, space, the media, a page of the pool.

A workload of many calls runs again and again; in run n the nth allocation of memory by
the daemon (of blocks; the nth wait for the media) fails.  The call that met it gets
ENOMEM, ENOSPC or EIO; made once more it succeeds, and so do all others.  Only when the
media fail, or when metadata cannot be read, does the filesystem turn read-only.  Nothing
that was durable is missing after the next mount, and the checker finds nothing wrong.
"""

import errno
import fcntl
import mmap
import os
import random
import shutil
import struct
import subprocess
import sys
import time

sys.dont_write_bytecode = True
import mountlib
from mountlib import Mount, clone, open_dir, rollback, snap

INJECT = 0xC0184D7F
MEMORY, SPACE, DRAIN, POISON, HEAP = 1, 2, 3, 4, 100
ERRORS = {
    MEMORY: {errno.ENOMEM},
    HEAP: {errno.ENOMEM},
    SPACE: {errno.ENOSPC},
    DRAIN: {errno.EIO, errno.EROFS},
    POISON: {errno.EIO, errno.EUCLEAN, errno.EROFS},
}
BLOCK = 4096
SRC = os.path.abspath(os.environ.get("MSNAP_SRC", os.path.dirname(__file__) +
                                     "/../.."))
BUILD = os.path.abspath(os.environ.get("MSNAP_BUILD", "."))


class Failing(Mount):
    """A mount that can be told what is to fail."""

    def __init__(self, size="64M"):
        super().__init__(size, ["-o", "mode=cached,commit=3600,inject"])
        self.program = self.top + "/bin/mount.memsnapfs"
        os.mkdir(self.top + "/bin")
        os.symlink(BUILD + "/tests/mount/mount-failing", self.program)

    def mount(self):
        subprocess.run([self.program, self.pool, self.dir] + self.options,
                       check=True)
        self.fd = open_dir(self.dir)

    def unmount(self):
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        super().unmount()

    def arm(self, what, nth):
        """How many events there were since the last time."""
        arg = bytearray(struct.pack("IIQQ", what, 0, nth, 0))
        fcntl.ioctl(self.fd, INJECT, arg)
        return struct.unpack_from("Q", arg, 16)[0]

    def fsck(self):
        out = subprocess.run(["fsck.memsnapfs", "-nfc", self.pool],
                             stdout=subprocess.PIPE, text=True)
        assert out.returncode == 0, out.stdout

    def remount(self):
        self.unmount()
        self.fsck()
        self.mount()


# ---- the workload ----------------------------------------------------------------

def data(tag, size):
    return (b"%8d" % tag * (size // 8 + 1))[:size]


def put(path, content, off=0, sync=False):
    fd = os.open(path, os.O_RDWR)
    try:
        done = 0
        while done < len(content):
            done += os.pwrite(fd, content[done:], off + done)
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)


def create(path, content=b""):
    """Made or not, in one call; then filled."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o644))
    put(path, content)


def get(path):
    """From the pool, not from the page cache."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        out = b""
        while chunk := os.pread(fd, 1 << 20, len(out)):
            out += chunk
        return out
    finally:
        os.close(fd)


def must_be(path, content):
    got = get(path)
    assert got == content, "%s: %d bytes, not as they were stored" % (path, len(got))


def store(path, content, off):
    """Through a mapping."""
    fd = os.open(path, os.O_RDWR)
    try:
        with mmap.mmap(fd, 0) as mem:
            mem[off:off + len(content)] = content
            mem.flush()
    finally:
        os.close(fd)


def sync(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def fallocate(path, mode, off, size):
    out = subprocess.run(["fallocate", *mode, "-o", str(off), "-l", str(size), path],
                         stderr=subprocess.PIPE, text=True)
    for code in (errno.ENOMEM, errno.ENOSPC, errno.EIO, errno.EROFS, errno.EUCLEAN):
        if os.strerror(code) in out.stderr:
            raise OSError(code, path)
    assert not out.returncode, out.stderr


def copy_range(src, dst, size):
    with open(src, "rb") as a, open(dst, "r+b") as b:
        left = size
        while left:
            done = os.copy_file_range(a.fileno(), b.fileno(), left)
            assert done
            left -= done


def once(condition, call, *args):
    """A call that cannot be made twice: it may have been done when it failed."""
    if not condition():
        call(*args)


def steps(d):
    """Calls of every kind, each good for being made again.  What they lead to is in
    the_end()."""
    big, other, sub = d + "/big", d + "/other", d + "/sub"
    snaps = d + "/.snap/"

    def there(path):
        return lambda: os.path.lexists(path)

    def gone(path):
        return lambda: not os.path.lexists(path)

    return [
        lambda: once(there(sub), os.mkdir, sub),
        lambda: create(big, data(1, 300000)),
        lambda: create(other, data(2, 70000)),
        lambda: [create("%s/%d" % (sub, i), data(i, 100 * i)) for i in range(20)],
        lambda: store(big, data(3, 5000), 8192),
        lambda: sync(big),
        lambda: once(there(d + "/link"), os.link, big, d + "/link"),
        lambda: once(there(d + "/sym"), os.symlink, "x" * 2000, d + "/sym"),
        lambda: os.readlink(d + "/sym"),
        lambda: os.setxattr(big, "user.small", b"value"),
        lambda: os.setxattr(big, "user.large", data(4, 5000)),
        lambda: os.getxattr(big, "user.large"),
        lambda: os.listxattr(big),
        lambda: os.removexattr(big, "user.small")
        if "user.small" in os.listxattr(big) else None,
        lambda: once(there(snaps + "one"), os.mkdir, snaps + "one"),
        lambda: once(there(snaps + "two"), snap, d, "two", "other"),
        lambda: put(big, data(5, 9000), 100000),
        lambda: once(there(d + "/clone"), clone, other, d + "/clone"),
        lambda: once(there(d + "/subs"), clone, sub, d + "/subs", mountlib.RECURSIVE),
        lambda: create(d + "/copy"),
        lambda: copy_range(other, d + "/copy", 65536),
        lambda: must_be(snaps + "one/other", data(2, 70000)),
        lambda: put(other, data(6, 20000), 30000),
        lambda: fallocate(d + "/copy", ["-p"], 8192, 8192),
        lambda: fallocate(d + "/copy", ["-z"], 20000, 3000),
        lambda: fallocate(d + "/copy", [], 65536, 50000),
        lambda: os.truncate(big, 250000),
        lambda: os.truncate(big, 350000),
        lambda: os.chmod(sub, 0o750),
        lambda: os.utime(sub, (5, 5)),
        lambda: os.listdir(sub),
        lambda: os.listdir(snaps),
        lambda: [os.stat("%s/%d" % (sub, i)) for i in range(20)],
        lambda: os.statvfs(d),
        lambda: once(there(d + "/moved"), os.rename, d + "/link", d + "/moved"),
        lambda: once(gone(sub + "/3"), os.rename, sub + "/3", sub + "/4"),
        lambda: once(gone(sub + "/5"), os.unlink, sub + "/5"),
        lambda: rollback(d, "two", "other", mountlib.NO_SAFETY),
        lambda: must_be(other, data(2, 70000)),
        lambda: once(there(snaps + "three"), os.rename, snaps + "two", snaps + "three"),
        lambda: once(gone(snaps + "three"), os.rmdir, snaps + "three"),
        lambda: mountlib_info(d),
        lambda: sync(d),
    ]


def mountlib_info(d):
    """What there is to know, by ioctl."""
    fd = open_dir(d)
    try:
        for number, size in mountlib.LOOKING.items():
            fcntl.ioctl(fd, number, bytearray(size))
    finally:
        os.close(fd)


def the_end(d):
    """What the workload leads to."""
    big = bytearray(data(1, 300000))
    big[8192:13192] = data(3, 5000)
    big[100000:109000] = data(5, 9000)
    big = bytes(big[:250000]) + bytes(100000)
    must_be(d + "/big", big)
    must_be(d + "/moved", big)
    must_be(d + "/other", data(2, 70000))
    must_be(d + "/clone", data(2, 70000))
    copy = bytearray(data(2, 65536)) + bytes(50000)
    copy[8192:16384] = bytes(8192)
    copy[20000:23000] = bytes(3000)
    must_be(d + "/copy", bytes(copy))
    assert os.readlink(d + "/sym") == "x" * 2000
    assert os.getxattr(d + "/big", "user.large") == data(4, 5000)
    assert os.listxattr(d + "/big") == ["user.large"]
    assert os.stat(d + "/sub").st_mode & 0o777 == 0o750
    names = {str(i) for i in range(20)} - {"3", "5"}
    assert set(os.listdir(d + "/sub")) == names
    must_be(d + "/sub/4", data(3, 300))
    assert len(os.listdir(d + "/subs")) == 20
    must_be(d + "/.snap/one/other", data(2, 70000))
    assert os.listdir(d + "/.snap") == ["one"]


def clear(d):
    for name in os.listdir(d + "/.snap"):
        os.rmdir(d + "/.snap/" + name)
    shutil.rmtree(d)


# ---- failures that go by ------------------------------------------------------------

def allowed(what, err, number):
    # What was stored through a mapping and could not be written back: the kernel
    # knows of EIO and ENOSPC only.
    return err.errno in ERRORS[what] or \
        err.errno == errno.EIO and number in (4, 5)


def run_with(m, d, what, n):
    """One failure on the way.  How many events there were."""
    os.mkdir(d)
    failed = 0
    m.arm(what, n)
    for number, step in enumerate(steps(d)):
        try:
            step()
            continue
        except OSError as err:
            assert allowed(what, err, number), "failure %d, step %d: %s" % (
                n, number, err)
            failed += 1
        assert failed <= 2, "failure %d: more than that fails" % n
        step()
    seen = m.arm(what, 0)
    the_end(d)
    clear(d)
    return seen, failed


def test_passing(m, what, name):
    d = m.dir + "/w"
    n = met = 0
    seen = 1
    while seen > n:
        n += 1
        seen, failed = run_with(m, d, what, n)
        met += bool(failed)
    must_be(m.dir + "/keep", data(9, 100000))
    m.remount()
    must_be(m.dir + "/keep", data(9, 100000))
    assert met, "no call noticed anything"
    print("ok: %s: %d failures tried, %d came to a caller" % (name, n, met),
          flush=True)


# ---- media that fail ------------------------------------------------------------------

SYNCED, SNAPPED = 5, 14 # steps that promise something


def run_on_bad_media(m, n):
    """False: there are not as many waits."""
    d = m.dir + "/w"
    done = set()
    dead = False
    os.mkdir(d)
    m.arm(DRAIN, n)
    for number, step in enumerate(steps(d)):
        try:
            step()
        except (OSError, AssertionError) as err:
            # What cannot be done any more makes what follows impossible, too.
            assert dead or allowed(DRAIN, err, number), "failure %d, step %d: %s" % (
                n, number, err)
            dead = True
        else:
            done.add(number)
            assert not dead or not changes(d), "failure %d: still writable" % n
    seen = m.arm(DRAIN, 0)
    m.remount()
    must_be(m.dir + "/keep", data(9, 100000))
    if not dead:
        the_end(d)
    elif SYNCED in done:
        assert len(get(d + "/big")) >= 250000
        assert get(d + "/other")[:30000] == data(2, 30000)
        assert len(os.listdir(d + "/sub")) >= 18
    if SNAPPED in done:
        must_be(d + "/.snap/one/other", data(2, 70000))
    create(m.dir + "/after", b"all")
    if os.path.exists(d):
        clear(d)
    sync(m.dir)
    return seen >= n


def changes(d):
    try:
        os.mkdir(d + "/no")
    except OSError as err:
        assert err.errno in ERRORS[DRAIN]
        return False
    return True


def test_media(m):
    n = 1
    while run_on_bad_media(m, n):
        n += 1
    assert n > 10
    print("ok: waits for the media: %d failures tried" % (n - 1), flush=True)


# ---- memory that cannot be read ---------------------------------------------------------

def blocks_of(pool, wanted):
    """The pool's blocks that wanted() is true of."""
    with open(pool, "rb") as f:
        nr = os.fstat(f.fileno()).st_size // BLOCK
        return [i for i in range(nr) if wanted(f.read(BLOCK))]


def try_all(d):
    """Read and change everything; the errors that came."""
    errors = set()

    def attempt(call, *args):
        try:
            return call(*args)
        except OSError as err:
            errors.add(err.errno)

    for name in sorted(attempt(os.listdir, d) or ()):
        path = d + "/" + name
        attempt(os.stat, path)
        if os.path.isfile(path):
            attempt(get, path)
            attempt(put, path, b"x", 0)
    for name in attempt(os.listdir, d + "/.snap") or ():
        attempt(os.listdir, d + "/.snap/" + name)
    new = "%s/new-%d" % (d, time.time_ns())
    attempt(os.mkdir, new)
    if os.path.isdir(new):
        attempt(os.rmdir, new)
    attempt(sync, d)
    return errors


def test_poisoned_data(m):
    content = b"".join(b"poison%02d" % i * (BLOCK // 8) for i in range(8))
    create(m.dir + "/poisoned", content)
    m.remount()
    bad, = blocks_of(m.pool, lambda b: b == content[3 * BLOCK:4 * BLOCK])
    m.arm(POISON, bad)
    fd = os.open(m.dir + "/poisoned", os.O_RDONLY | os.O_DIRECT)
    for i in range(8):
        buf = mmap.mmap(-1, BLOCK)
        try:
            os.preadv(fd, [buf], i * BLOCK)
            assert i != 3, "poison was read"
            assert buf[:] == content[i * BLOCK:(i + 1) * BLOCK]
        except OSError as err:
            assert i == 3 and err.errno == errno.EIO, "block %d: %s" % (i, err)
    os.close(fd)
    must_be(m.dir + "/keep", data(9, 100000))
    create(m.dir + "/others go on", b"yes")
    sync(m.dir)
    m.remount()
    must_be(m.dir + "/poisoned", content)
    must_be(m.dir + "/others go on", b"yes")
    print("ok: poison in a file: EIO there, nowhere else", flush=True)


def test_poisoned_nodes(m):
    d = m.dir + "/nodes"
    os.mkdir(d)
    for i in range(60):
        create("%s/%d" % (d, i), data(i, 5000))
    snap(d, "s")
    m.remount()
    m.unmount()
    nodes = newest_nodes(m.pool)
    m.mount()
    met = read_only = 0
    for blk in nodes:
        m.arm(POISON, blk)
        errors = try_all(d)
        assert errors <= ERRORS[POISON], "block %d: %s" % (blk, errors)
        met += bool(errors)
        read_only += errno.EROFS in errors
        m.remount()
        for i in range(60):
            got = get("%s/%d" % (d, i))
            assert got[1:] == data(i, 5000)[1:]
        must_be(m.dir + "/keep", data(9, 100000))
    assert met, "nothing was met"
    print("ok: poison in the trees: met in %d places, read-only after %d" %
          (met, read_only), flush=True)


def newest_nodes(pool):
    """The blocks of the tree nodes that were written last."""
    magic = struct.pack("<I", node_magic())
    found = []
    with open(pool, "rb") as f:
        for blk in range(os.fstat(f.fileno()).st_size // BLOCK):
            node = f.read(BLOCK)
            if node[8:12] == magic:
                found.append((struct.unpack_from("<Q", node, 24)[0], blk))
    return [blk for _, blk in sorted(found, reverse=True)[:20]]


def node_magic():
    with open(SRC + "/src/cow/format.h", encoding="ascii") as f:
        for line in f:
            if line.startswith("#define MSNAP_NODE_MAGIC"):
                return int(line.split()[2].rstrip("uUlL"), 0)
    raise AssertionError("no magic")


def test_for_tests_only():
    """Nothing of this without the option."""
    with Mount("64M") as m:
        fd = open_dir(m.dir)
        try:
            fcntl.ioctl(fd, INJECT, bytearray(24))
            raise AssertionError("anybody can make things fail")
        except OSError as err:
            assert err.errno == errno.ENOTTY
        os.close(fd)


def main():
    seed = int(os.environ.get("MSNAP_SEED", time.time_ns() % 1000000))
    print("MSNAP_SEED=%d" % seed)
    random.seed(seed)
    test_for_tests_only()
    with Failing() as m:
        create(m.dir + "/keep", data(9, 100000))
        sync(m.dir)
        test_passing(m, HEAP, "memory of the daemon")
        test_passing(m, MEMORY, "memory of the engine")
        test_passing(m, SPACE, "blocks")
        test_media(m)
        test_poisoned_data(m)
        test_poisoned_nodes(m)


main()
