#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Direct mode: everything that files can do, while the kernel runs them on views.

The pool must be where the mode is direct (see on-host).  MSNAP_SEEDS: how many runs of
random changes (4).
"""

import ctypes
import errno
import mmap
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
from mountlib import (Mount, NO_SAFETY, clone, fails, info, map_file, read,
                      rollback, snap, write)

MIB = 1 << 20
PAGE = 4096
LARGE = 256 << 10   # large enough for a view when it is only read

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int,
                      ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.msync.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Mapping:
    """A shared mapping whose file is closed, which Python's own keeps open."""

    def __init__(self, path, size, prot=mmap.PROT_READ | mmap.PROT_WRITE):
        write = prot & mmap.PROT_WRITE
        fd = os.open(path, os.O_RDWR if write else os.O_RDONLY)
        self.size = size
        self.at = libc.mmap(None, size, prot, mmap.MAP_SHARED, fd, 0)
        assert self.at != ctypes.c_void_p(-1).value, os.strerror(ctypes.get_errno())
        os.close(fd)
        self.mem = (ctypes.c_char * size).from_address(self.at)

    def __getitem__(self, what):
        return self.mem[what]

    def store(self, off, data):
        ctypes.memmove(self.at + off, data, len(data))

    def msync(self):
        assert libc.msync(self.at, self.size, 4) == 0

    def close(self):
        libc.munmap(self.at, self.size)


def settle(m):
    """Until the daemon has seen every close."""
    for _ in range(500):
        if info(m.dir)["open_files"] == 0:
            return
        time.sleep(0.01)
    raise AssertionError("files stay open")


def check_counters(m):
    """No READ and no WRITE reaches the daemon."""
    path = m.dir + "/counted"
    fd, mem = map_file(path, 32 * MIB)
    before = info(m.dir)
    for off in range(0, 32 * MIB, PAGE):
        mem[off:off + 8] = b"stored%02d" % (off // PAGE % 100)
    assert mem[:8] == b"stored00"
    os.pwrite(fd, b"written", 5 * MIB)
    assert os.pread(fd, 7, 5 * MIB) == b"written" == mem[5 * MIB:5 * MIB + 7]
    mem.flush()
    os.fsync(fd)
    assert read(path) == mem[:]
    after = info(m.dir)
    for what in "reads", "writes", "bytes_read", "bytes_written":
        assert before[what] == after[what], what
    assert info(path)["file_mode"] == "direct"
    mem.close()
    os.close(fd)
    assert read(path)[-PAGE:-PAGE + 6] == b"stored"
    assert info(m.dir)["reads"] == after["reads"]
    os.unlink(path)
    print("ok: no read and no write request")


def check_quiet(m):
    """What comes after restore points in which nothing was new is in the next one."""
    path = m.dir + "/quiet"
    fd, mem = map_file(path, 4 * MIB)
    changes = [
        lambda: mem.__setitem__(slice(5 * PAGE, 5 * PAGE + 5), b"first"),
        lambda: mem.__setitem__(slice(5 * PAGE, 5 * PAGE + 5), b"again"),
        lambda: os.pwrite(fd, b"written", MIB),
        lambda: os.ftruncate(fd, 5 * MIB),
        lambda: libc.fallocate(fd, 3, ctypes.c_long(0), ctypes.c_long(8 * PAGE)),
        lambda: os.ftruncate(fd, 2 * MIB + 5),
    ]
    for i, change in enumerate(changes):
        for k in range(3):
            time.sleep(0.12)    # longer than what may have the same time
            snap(m.dir, "quiet-%d-%d" % (i, k), file="quiet")
        before = read(m.dir + "/.snap/quiet-%d-2/quiet" % i)
        change()
        snap(m.dir, "quiet-%d" % i, file="quiet")
        want = read(path)
        assert want != before
        assert read(m.dir + "/.snap/quiet-%d/quiet" % i) == want, i
    mem.close()
    os.close(fd)
    os.unlink(path)
    print("ok: restore points of what is quiet")


def check_closed(m):
    """A mapping outlives the file that it was made of."""
    path = m.dir + "/closed"
    write(path, os.urandom(LARGE + 100))
    only_read = Mapping(path, LARGE, mmap.PROT_READ)
    settle(m)
    mem = Mapping(path, LARGE)
    mem.store(0, b"first")
    settle(m)
    mem.store(PAGE, b"second")
    snap(m.dir, "closed-1", file="closed")
    assert read(m.dir + "/.snap/closed-1/closed")[PAGE:PAGE + 6] == b"second"
    assert read(path)[PAGE:PAGE + 6] == b"second"
    mem.store(2 * PAGE, b"third")
    assert read(path)[2 * PAGE:2 * PAGE + 5] == b"third"
    with open(path, "r+b") as f:
        f.write(b"FIRST")
    with open(path, "ab") as f:     # can only be written
        f.write(b"the end")
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, b"FOURTH", 3 * PAGE)
    os.close(fd)
    for each in mem, only_read:
        assert each[:5] == b"FIRST", each[:5]
        assert each[3 * PAGE:3 * PAGE + 6] == b"FOURTH"
    mem.close()
    # Only a reader is left: what others store it sees
    settle(m)
    snap(m.dir, "closed-2", file="closed")
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, b"fifth", 4 * PAGE)
    os.close(fd)
    assert only_read[4 * PAGE:4 * PAGE + 5] == b"fifth"
    rollback(m.dir, "closed-1", file="closed", flags=NO_SAFETY)
    assert only_read[PAGE:PAGE + 6] == b"second" and only_read[:5] == b"first"
    assert only_read[4 * PAGE:4 * PAGE + 5] != b"fifth"
    only_read.close()
    assert read(path) == read(m.dir + "/.snap/closed-1/closed")
    # Stored after the close, nobody looked, remounted
    mem = Mapping(path, LARGE)
    settle(m)
    mem.store(5 * PAGE, b"sixth")
    mem.close()
    m.unmount()
    m.mount()
    assert read(path)[5 * PAGE:5 * PAGE + 5] == b"sixth"
    print("ok: mappings of files that are closed")


def check_busy(m):
    """A mapping keeps the mount busy, as it does elsewhere."""
    path = m.dir + "/busy"
    write(path, bytes(LARGE))
    mem = Mapping(path, LARGE)
    settle(m)
    assert subprocess.run(["umount", m.dir], stderr=subprocess.DEVNULL).returncode
    # The daemon is told to end: it does, and the mapping goes on
    mem.store(0, b"before")
    os.kill(info(m.dir)["pid"], signal.SIGTERM)
    while m.is_busy():
        time.sleep(0.01)
    mem.store(PAGE, b"between")
    subprocess.run(["umount", "-l", m.dir], stderr=subprocess.DEVNULL)
    m.mount()
    now = read(path)
    assert now[:6] == b"before" and now[PAGE:PAGE + 7] == b"between"
    mem.close()
    print("ok: a daemon that ends under a mapping")


def check_sizes(m):
    """Truncated and extended under its mapping, by file and by name."""
    path = m.dir + "/sizes"
    data = os.urandom(LARGE + 1234)
    write(path, data)
    fd, mem = map_file(path)
    mem[:4] = data[:4]
    for size in 200_001, 150_000, 40960, 40961, 300_000, 5, 0, 100_000:
        (os.ftruncate if size % 2 else os.truncate)(fd if size % 2 else path, size)
        data = data[:size].ljust(size, b"\0")
        assert os.fstat(fd).st_size == size == os.stat(path).st_size
        assert os.lseek(fd, 0, os.SEEK_END) == size
        assert read(path) == data, size
        snap(m.dir, "sizes-%d" % size, file="sizes")
        assert read(m.dir + "/.snap/sizes-%d/sizes" % size) == data, size
    mem[99_999:100_000] = b"x"
    mem.close()
    os.close(fd)
    # O_TRUNC and O_APPEND with the file mapped by somebody else
    fd, mem = map_file(path)
    with open(path, "wb") as f:
        f.write(b"short")
    assert read(path) == b"short" and mem[:5] == b"short"
    with open(path, "ab") as f:
        f.write(b" and long")
    with open(path, "r+b") as f:
        f.seek(0, 2)
        f.write(b"er")
    assert read(path) == b"short and longer" == mem[:16]
    mem.close()
    os.close(fd)
    settle(m)
    m.unmount()
    m.mount()
    assert read(path) == b"short and longer"
    print("ok: sizes")


def check_holes(m):
    """fallocate, punch, zero and lseek."""
    path = m.dir + "/holes"
    fd, mem = map_file(path, MIB + 10)
    assert os.lseek(fd, 0, os.SEEK_HOLE) == 0
    fails(errno.ENXIO, os.lseek, fd, 0, os.SEEK_DATA)
    mem[512 * 1024] = 1
    assert os.lseek(fd, 0, os.SEEK_DATA) <= 512 * 1024
    mem[:MIB] = b"d" * MIB
    subprocess.run(["fallocate", "-p", "-o", "65536", "-l", "65536", path], check=True)
    assert os.lseek(fd, 0, os.SEEK_HOLE) == 65536
    assert os.lseek(fd, 65536, os.SEEK_DATA) == 131072
    subprocess.run(["fallocate", "-z", "-o", "200001", "-l", "50000", path], check=True)
    want = (b"d" * 65536 + bytes(65536) + b"d" * (200001 - 131072) + bytes(50000) +
            b"d" * (MIB - 250001) + bytes(10))
    assert mem[:] == want
    subprocess.run(["fallocate", "-o", str(MIB), "-l", str(MIB), path], check=True)
    assert os.fstat(fd).st_size == 2 * MIB
    want += bytes(MIB - 10)
    snap(m.dir, "holes", file="holes")
    mem[65536:65541] = b"later"
    old = m.dir + "/.snap/holes/holes"
    assert read(old) == want
    s = os.open(old, os.O_RDONLY)
    assert os.lseek(s, 0, os.SEEK_HOLE) == 65536
    os.close(s)
    mem.close()
    os.close(fd)
    settle(m)
    assert read(path) == want[:65536] + b"later" + want[65541:]
    print("ok: holes")


def check_copies(m):
    """copy_file_range between files that are mapped and being written."""
    a, mem_a = map_file(m.dir + "/copy-a", MIB + 77)
    b, mem_b = map_file(m.dir + "/copy-b", MIB + 77)
    data_a, data_b = os.urandom(MIB + 77), os.urandom(MIB + 77)
    mem_a[:], mem_b[:] = data_a, data_b
    stop = threading.Event()

    def writer():
        n = 0
        while not stop.is_set():
            n += 1
            # Places that no copy below touches
            mem_b[900_000:900_008] = b"%08d" % (n % 10**8)
            mem_a[950_000:950_008] = b"%08d" % (n % 10**8)
            assert mem_b[900_000:900_008] == b"%08d" % (n % 10**8), "a store was lost"

    thread = threading.Thread(target=writer)
    thread.start()
    rand = random.Random(5)
    data_b = bytearray(data_b)
    for i in range(60):
        n = rand.choice((1, 100, PAGE, 8 * PAGE, 100_000))
        src, dst = rand.randrange(700_000), rand.randrange(700_000)
        if i % 2:
            n, src, dst = (x // PAGE * PAGE for x in (n + PAGE, src, dst))
        assert os.copy_file_range(a, b, n, src, dst) == n
        data_b[dst:dst + n] = data_a[src:src + n]
    stop.set()
    thread.join()
    assert mem_b[:900_000] == data_b[:900_000]
    assert mem_b[900_008:] == data_b[900_008:]
    # Within one file; behind the end; from what is in no view; to what is in none
    assert os.copy_file_range(a, a, PAGE, 0, 10 * PAGE) == PAGE
    assert mem_a[10 * PAGE:11 * PAGE] == data_a[:PAGE]
    assert os.copy_file_range(a, b, 1000, MIB, 2 * MIB) == 77
    assert os.fstat(b).st_size == 2 * MIB + 77
    write(m.dir + "/copy-c", data_a)
    c = os.open(m.dir + "/copy-c", os.O_RDONLY)
    assert os.copy_file_range(c, b, MIB + 77, 0, 5) == MIB + 77
    assert os.pread(b, MIB + 77, 5) == data_a
    os.close(c)
    subprocess.run(["cp", m.dir + "/copy-b", m.dir + "/copy-d"], check=True)
    assert read(m.dir + "/copy-d") == read(m.dir + "/copy-b")
    d = os.open(m.dir + "/copy-d", os.O_WRONLY | os.O_TRUNC)
    mem_a[:5] = b"newer"
    assert os.copy_file_range(a, d, MIB, 0, 0) == MIB
    os.close(d)
    assert read(m.dir + "/copy-d") == mem_a[:MIB]
    # A sparse source leaves holes
    write(m.dir + "/copy-e", b"")
    os.truncate(m.dir + "/copy-e", 1 << 36)
    e = os.open(m.dir + "/copy-e", os.O_RDWR)
    f = os.open(m.dir + "/copy-f", os.O_RDWR | os.O_CREAT)
    assert os.copy_file_range(e, f, 1 << 30, 0, 0) == 1 << 30
    assert os.fstat(f).st_blocks == 0 and os.fstat(f).st_size == 1 << 30
    for each in mem_a, mem_b:
        each.close()
    for each in a, b, e, f:
        os.close(each)
    print("ok: copies")


def check_names(m):
    """Renamed, replaced and deleted while it is mapped."""
    fd, mem = map_file(m.dir + "/name-1", MIB)
    mem[:5] = b"store"
    os.rename(m.dir + "/name-1", m.dir + "/name-2")
    mem[PAGE:PAGE + 5] = b"later"
    assert read(m.dir + "/name-2")[PAGE:PAGE + 5] == b"later"
    other, other_mem = map_file(m.dir + "/name-3", MIB)
    other_mem[:5] = b"other"
    os.rename(m.dir + "/name-3", m.dir + "/name-2")
    assert mem[:5] == b"store" and os.fstat(fd).st_nlink == 0
    assert read(m.dir + "/name-2")[:5] == b"other"
    os.unlink(m.dir + "/name-2")
    other_mem[:5] = b"alive"
    assert os.pread(other, 5, 0) == b"alive"
    new, new_mem = map_file(m.dir + "/name-2", MIB)
    assert new_mem[:5] == bytes(5)
    snap(m.dir, "names")
    for each in mem, other_mem, new_mem:
        each.close()
    for each in fd, other, new:
        os.close(each)
    mem = Mapping(m.dir + "/name-2", MIB)
    settle(m)
    os.unlink(m.dir + "/name-2")
    mem.store(0, b"nameless")
    assert mem[:8] == b"nameless"
    mem.close()
    settle(m)
    assert not [n for n in os.listdir(m.dir) if n.startswith("name-")]
    print("ok: names")


def check_mixed(m):
    """Opened for reading and for writing, small and large, in any order."""
    for size in 100, LARGE:
        path = m.dir + "/mixed"
        write(path, b"o" * size)
        r1 = os.open(path, os.O_RDONLY)
        assert os.pread(r1, size, 0) == b"o" * size
        assert info(path)["file_mode"] == ("cached" if size == 100 else "direct")
        rw = os.open(path, os.O_RDWR)
        mem = mmap.mmap(rw, size)
        mem[:3] = b"map"
        r2 = os.open(path, os.O_RDONLY)
        assert os.pread(r1, 3, 0) == b"map" == os.pread(r2, 3, 0)
        w = os.open(path, os.O_WRONLY)
        os.pwrite(w, b"write", 50)
        assert mem[50:55] == b"write" == os.pread(r1, 5, 50)
        for each in r1, rw, w:
            os.close(each)
        mem[60:63] = b"too"
        assert os.pread(r2, 3, 60) == b"too"
        mem.close()
        os.close(r2)
        settle(m)
        rw = os.open(path, os.O_RDWR)
        mem = mmap.mmap(rw, size)
        assert mem[:3] == b"map" and mem[50:55] == b"write"
        assert info(path)["file_mode"] == "direct"
        mem[:3] = b"MAP"
        mem.close()
        os.close(rw)
        assert read(path)[:3] == b"MAP"
    # A reader of a small file that is being appended to
    path = m.dir + "/log"
    w = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    stop = threading.Event()

    def writer():
        for _ in range(2000):
            os.write(w, b"line\n")
        stop.set()

    thread = threading.Thread(target=writer)
    thread.start()
    r = os.open(path, os.O_RDONLY)
    while not stop.is_set():
        seen = os.pread(r, 20_000, 0)
        assert not seen.strip(b"line\n"), "what nobody wrote: %r" % seen.strip(b"line\n")
    thread.join()
    assert os.pread(r, 20_000, 0) == b"line\n" * 2000
    os.close(r)
    os.close(w)
    print("ok: mixed opens")


def open_often(path, flags, until):
    try:
        while time.time() < until:
            fd = os.open(path, flags)
            if flags == os.O_WRONLY:
                os.pwrite(fd, b"written", 5)
            os.close(fd)
    except OSError as e:
        print("open, flags %#o: %s" % (flags, e), flush=True)
        os._exit(1)
    os._exit(0)


def check_opens(m):
    """Opens of all kinds at the same time: none fails."""
    path = m.dir + "/opened"
    write(path, b"o" * LARGE)
    until = time.time() + 3
    pids = []
    for flags in (os.O_WRONLY, os.O_RDWR) * 2:
        pid = os.fork()
        if not pid:
            open_often(path, flags, until)
        pids.append(pid)
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0
    print("ok: opens at the same time")


def check_times(m):
    """A store changes the time of the file, also for who has looked before."""
    path = m.dir + "/times"
    write(path, bytes(LARGE))
    os.utime(path, (10**9, 10**9))
    assert os.stat(path).st_mtime == 10**9
    fd, mem = map_file(path)
    assert os.stat(path).st_mtime == 10**9
    mem[0] = 1
    mem.flush()
    assert time.time() - os.stat(path).st_mtime < 100
    mem.close()
    os.close(fd)
    settle(m)
    assert time.time() - os.stat(path).st_mtime < 100
    os.utime(path, (10**9, 10**9))
    fd, mem = map_file(path)
    assert os.fstat(fd).st_mtime == 10**9
    os.utime(path, (11**9, 11**9))
    assert os.stat(path).st_mtime == 11**9
    mem.close()
    os.close(fd)
    settle(m)
    assert os.stat(path).st_mtime == 11**9
    print("ok: times")


def check_programs(m):
    """Executed from the mount, large and small; forked with a mapping."""
    for program in sys.executable, "/bin/echo":
        path = m.dir + "/program"
        shutil.copy(os.path.realpath(program), path)
        args = ["-c", "print(6 * 7)"] if program == sys.executable else ["42"]
        out = subprocess.run([path] + args, stdout=subprocess.PIPE, check=True)
        assert out.stdout == b"42\n"
        os.unlink(path)
    fd, mem = map_file(m.dir + "/forked", MIB)
    pid = os.fork()
    if not pid:
        mem[:5] = b"child"
        os.pwrite(fd, b"CHILD", PAGE)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert mem[:5] == b"child" and mem[PAGE:PAGE + 5] == b"CHILD"
    mem.close()
    os.close(fd)
    assert read(m.dir + "/forked")[:5] == b"child"
    print("ok: programs")


def check_rollback(m):
    """Mapped, rolled back: the mapping shows it; what is stored later counts."""
    path = m.dir + "/roll"
    old = os.urandom(2 * MIB + 99)
    write(path, old)
    snap(m.dir, "roll", file="roll")
    fd, mem = map_file(path)
    reader = os.open(path, os.O_RDONLY)
    for round_ in range(3):
        mem[100_000 * round_:100_000 * round_ + 5] = b"break"
        os.pwrite(fd, b"longer", len(old))
        subprocess.run(["fallocate", "-p", "-o", "1M", "-l", "64K", path], check=True)
        safety = rollback(m.dir, "roll", file="roll")
        assert mem[:] == old and os.fstat(fd).st_size == len(old)
        assert os.pread(reader, len(old) + 10, 0) == old
        assert read(m.dir + "/.snap/%s/roll" % safety)[-6:] == b"longer"
        os.rmdir(m.dir + "/.snap/" + safety)
    mem[:5] = b"after"
    mem.close()
    for each in fd, reader:
        os.close(each)
    settle(m)
    assert read(path) == b"after" + old[5:]
    # A view that is kept is not older nor newer than what was rolled back
    rollback(m.dir, "roll", file="roll", flags=NO_SAFETY)
    assert read(path) == old
    print("ok: rollback")


def check_snapshots(m):
    """Snapshots and clones of a file that is mapped and stored to."""
    path = m.dir + "/live"
    fd, mem = map_file(path, 4 * MIB + 5)
    cuts = {}
    for i in range(8):
        mem[i * MIB // 2:i * MIB // 2 + 6] = b"step %d" % i
        mem[-1:] = b"%d" % i
        want = mem[:]
        if i % 2:
            snap(m.dir, "live-%d" % i)
            cuts[m.dir + "/.snap/live-%d/live" % i] = want
        else:
            clone(path, m.dir + "/clone-%d" % i)
            cuts[m.dir + "/clone-%d" % i] = want
    mem[:] = b"z" * len(mem)
    for cut, want in cuts.items():
        assert read(cut) == want, cut
    # A clone that is stored to changes nothing else
    other, other_mem = map_file(m.dir + "/clone-2")
    other_mem[:] = b"y" * len(other_mem)
    for cut, want in cuts.items():
        assert cut.endswith("clone-2") or read(cut) == want, cut
    other_mem.close()
    os.close(other)
    mem.close()
    os.close(fd)
    settle(m)
    m.unmount()
    m.mount()
    for cut, want in cuts.items():
        assert cut.endswith("clone-2") or read(cut) == want, cut
    assert read(m.dir + "/clone-2") == b"y" * (4 * MIB + 5)
    # Readers of a snapshot, and of another with the same contents, share one view
    snap(m.dir, "live-8")
    snap(m.dir, "live-9")
    readers = [Mapping(m.dir + "/.snap/live-%d/live" % (8 + i % 2), MIB,
                       mmap.PROT_READ) for i in range(2)]
    held = [os.open(m.dir + "/.snap/live-%d/live" % (8 + i % 2), os.O_RDONLY)
            for i in range(6)]
    views = [n for n in os.listdir(m.pool + ".views") if n.startswith("s")]
    assert len(views) == 1, views
    os.rmdir(m.dir + "/.snap/live-8")
    os.truncate(path, 0)
    write(m.dir + "/reuse", os.urandom(8 * MIB))
    for each in readers:
        assert each[:5] == b"zzzzz"
        each.close()
    for each in held:
        assert os.pread(each, 5, 0) == b"zzzzz"
        os.close(each)
    settle(m)
    assert not [n for n in os.listdir(m.pool + ".views") if n.startswith("s")]
    print("ok: snapshots and clones")


def check_many(m):
    """Hundreds of files open and mapped at once."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    # The daemon keeps no descriptor for an open file.
    resource.prlimit(info(m.dir)["pid"], resource.RLIMIT_NOFILE, (100, 100))
    os.mkdir(m.dir + "/many")
    files = [map_file(m.dir + "/many/%d" % i, 2 * PAGE + i) for i in range(600)]
    for i, (fd, mem) in enumerate(files):
        mem[i:i + 6] = b"file%02d" % (i % 100)
    snap(m.dir, "many")
    for i, (fd, mem) in enumerate(files):
        mem[0:6] = b"later!"
        mem.close()
        os.close(fd)
    for i in range(6, 600):
        assert read(m.dir + "/many/%d" % i)[:6] == b"later!"
        then = read(m.dir + "/.snap/many/many/%d" % i)
        assert len(then) == 2 * PAGE + i and then[i:i + 6] == b"file%02d" % (i % 100)
    shutil.rmtree(m.dir + "/many")
    print("ok: 600 files open")


def check_sparse(m):
    """Larger than the pool, the host and memory."""
    path = m.dir + "/sparse"
    fd, mem = map_file(path, 64 << 30)
    places = [0, 1 << 30, 10 << 30, (64 << 30) - PAGE]
    for place in places:
        mem[place:place + 6] = b"island"
    snap(m.dir, "sparse", file="sparse")
    for place in places:
        mem[place:place + 6] = b"flood!"
    then = os.open(m.dir + "/.snap/sparse/sparse", os.O_RDONLY)
    now = os.open(path, os.O_RDONLY)
    for place in places:
        assert os.pread(then, 6, place) == b"island" and os.pread(now, 6, place) == b"flood!"
    assert os.fstat(then).st_size == 64 << 30
    assert os.fstat(now).st_blocks < 10_000, os.fstat(now).st_blocks
    assert os.lseek(now, MIB, os.SEEK_DATA) > 1 << 29
    mem.close()
    for each in fd, then, now:
        os.close(each)
    settle(m)
    assert os.stat(path).st_size == 64 << 30 and os.stat(path).st_blocks < 10_000
    os.unlink(path)
    print("ok: sparse files")


def apply(rand, op, fd, mem, size):
    """One random change of a mapped file; what it returns must be the same."""
    at = rand.randrange(size)
    n = rand.choice((1, 10, PAGE, 5 * PAGE, 100_000))
    data = rand.randbytes(n)
    if op == "store":
        n = min(n, len(mem) - at, os.fstat(fd).st_size - at)
        if n > 0:
            mem[at:at + n] = data[:n]
    elif op == "write":
        return os.pwrite(fd, data, at)
    elif op == "truncate":
        os.ftruncate(fd, at)
    elif op == "punch" or op == "zero":
        mode = {"punch": 3, "zero": 0x11}[op]
        return libc.fallocate(fd, mode, ctypes.c_long(at), ctypes.c_long(n))
    elif op == "copy":
        return os.copy_file_range(fd, fd, min(n, 50_000), at // 2, 600_000 + at)
    elif op == "holes":
        return os.pread(fd, n, at)
    return None


def check_random(m, seed):
    """The same random changes to a file here and to one of the host's."""
    rand = random.Random(seed)
    here, there = m.dir + "/random", m.top + "/shadow"
    size = 600_000
    pair = None
    cuts = []

    def open_both():
        return [map_file(path, max(os.path.getsize(path), 1))
                if os.path.exists(path) else map_file(path, size)
                for path in (here, there)]

    def close_both():
        for fd, mem in pair:
            mem.close()
            os.close(fd)

    for step in range(400):
        if pair is None:
            pair = open_both()
        op = rand.choice(("store",) * 4 + ("write", "write", "truncate", "punch", "zero",
                                           "copy", "holes", "reopen", "snap", "clone",
                                           "closed"))
        state = rand.getstate()
        if op in ("reopen", "closed"):
            close_both()
            pair = None
            if op == "closed":  # changed by name, and by one who can only write
                data = rand.randbytes(5000)
                at = rand.randrange(size)
                for path in here, there:
                    fd = os.open(path, os.O_WRONLY)
                    os.pwrite(fd, data, at)
                    os.close(fd)
                    os.truncate(path, at + 3000)
        elif op == "snap":
            snap(m.dir, "random-%d" % step, file="random")
            cuts.append((m.dir + "/.snap/random-%d/random" % step, read(there)))
        elif op == "clone":
            clone(here, m.dir + "/random-%d" % step)
            cuts.append((m.dir + "/random-%d" % step, read(there)))
        else:
            results = []
            for fd, mem in pair:
                rand.setstate(state)
                results.append(apply(rand, op, fd, mem, size))
            assert results[0] == results[1], (seed, step, op)
        assert read(here) == read(there), (seed, step, op)
    if pair:
        close_both()
    for path, want in cuts:
        assert read(path) == want, (seed, path)
    settle(m)
    m.unmount()
    m.mount()
    assert read(here) == read(there)
    for path, want in cuts:
        assert read(path) == want, (seed, path)
    os.unlink(there)
    for name in os.listdir(m.dir):
        if name.startswith("random"):
            os.unlink(m.dir + "/" + name)
    for name in os.listdir(m.dir + "/.snap"):
        if name.startswith("random"):
            os.rmdir(m.dir + "/.snap/" + name)
    print("ok: random changes, seed %d: %d cuts" % (seed, len(cuts)))


def check_allocated():
    """What was allocated for a file is there for its contents, also on a full pool."""
    with Mount("64M") as m:
        path = m.dir + "/allocated"
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        os.posix_fallocate(fd, 0, 40 * MIB)
        mem = mmap.mmap(fd, 40 * MIB)
        for off in range(0, 40 * MIB, PAGE):
            mem[off:off + 8] = b"%08d" % off
        want = mem[:]
        snap(m.dir, "allocated")
        mem.close()
        os.close(fd)
        settle(m)
        assert read(path) == want == read(m.dir + "/.snap/allocated/allocated")
        m.unmount()
        m.mount()
        assert read(path) == want
    print("ok: allocated before it is stored")


def check_full_pool():
    """What finds no room in the pool stays in its view, and is not lost."""
    with Mount("48M") as m:
        path = m.dir + "/mapped"
        write(m.dir + "/ballast", os.urandom(20 * MIB))
        fd, mem = map_file(path, 60 * MIB)
        for off in range(0, 60 * MIB, PAGE):
            mem[off:off + 8] = b"%08d" % off
        os.fsync(fd)
        want = mem[:]
        fails(errno.ENOSPC, os.mkdir, m.dir + "/.snap/full")
        fails(errno.ENOSPC, os.posix_fallocate, fd, 60 * MIB, 60 * MIB)
        mem.close()
        os.close(fd)
        settle(m)
        assert read(path) == want
        m.unmount()
        out = subprocess.run(["mount.memsnapfs", m.pool, m.dir, "-o", "mode=cached"],
                             stderr=subprocess.PIPE)
        assert out.returncode == 1 and b"no room" in out.stderr, out.stderr
        m.mount()
        assert read(path) == want
        assert os.stat(path).st_size == 60 * MIB
        fd, mem = map_file(path)
        mem[:5] = b"again"
        mem.close()
        os.close(fd)
        # Room: for what is left of it
        os.unlink(m.dir + "/ballast")
        os.truncate(path, 20 * MIB)
        for _ in range(100):
            try:
                os.mkdir(m.dir + "/.snap/fits")
                break
            except OSError as e:
                assert e.errno == errno.ENOSPC
                time.sleep(0.1)
        want = b"again" + want[5:20 * MIB]
        assert read(m.dir + "/.snap/fits/mapped") == want
        m.unmount()
        assert not os.path.exists(m.pool + ".views")
        m.mount()
        assert read(path) == want == read(m.dir + "/.snap/fits/mapped")
    print("ok: a full pool")


def store_all(path, size):
    fd, mem = map_file(path)
    for off in range(0, size, PAGE):
        mem[off] = 1
    os._exit(0)


def check_full_host(m):
    """The host runs full: ENOSPC for write(2), SIGBUS for a store, nothing is lost."""
    path = m.dir + "/host"
    want = os.urandom(8 * MIB)
    write(path, want)
    snap(m.dir, "host", file="host")
    fd, mem = map_file(path)
    mem[:5] = b"store"
    mem.flush()
    st = os.statvfs(m.top)
    ballast = os.open(m.top + "/ballast", os.O_RDWR | os.O_CREAT)
    for step in 64 * MIB, MIB, PAGE:
        while libc.fallocate(ballast, 0, ctypes.c_long(os.fstat(ballast).st_size),
                             ctypes.c_long(step)) == 0:
            pass
    assert os.statvfs(m.dir).f_bavail * PAGE <= 64 * MIB
    pid = os.fork()
    if not pid:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        store_all(path, 8 * MIB)
    status = os.waitpid(pid, 0)[1]
    # What the host keeps for metadata may have sufficed.
    assert status == 0 or os.WTERMSIG(status) == signal.SIGBUS, status
    try:
        for off in range(0, 256 * MIB, MIB):
            os.pwrite(fd, bytes(MIB), 8 * MIB + off)
        os.fsync(fd)
        assert st.f_bavail * st.f_frsize > 8 << 30, "the host was not full"
    except OSError as e:
        assert e.errno == errno.ENOSPC, e
    assert read(m.dir + "/.snap/host/host") == want
    try:
        os.mkdir(m.dir + "/.snap/host-full")
    except OSError as e:
        # btrfs has no room even for what is overwritten: as bad memory to the pool.
        assert e.errno in (errno.ENOSPC, errno.EIO), e
    os.close(ballast)
    os.unlink(m.top + "/ballast")
    mem[:5] = b"after"
    snap(m.dir, "host-after", file="host")
    assert read(m.dir + "/.snap/host-after/host")[:8 * MIB] == mem[:8 * MIB]
    mem.close()
    os.close(fd)
    assert read(m.dir + "/.snap/host/host") == want
    os.unlink(path)
    print("ok: a full host")


def main():
    with Mount("2G") as m:
        assert info(m.dir)["mode"] == "direct", info(m.dir)["mode_why"]
        for check in (check_counters, check_quiet, check_closed, check_busy,
                      check_sizes, check_holes, check_copies, check_names,
                      check_mixed, check_opens, check_times, check_programs,
                      check_rollback, check_snapshots, check_many, check_sparse):
            check(m)
        for seed in range(int(os.environ.get("MSNAP_SEEDS", "4"))):
            check_random(m, seed)
        check_full_host(m)
    check_full_pool()
    check_allocated()


if __name__ == "__main__":
    sys.exit(main())
