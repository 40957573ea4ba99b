#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""kill -9 of the daemon while programs store through mappings that it does not serve.

The programs do not notice: they go on.  After the next mount everything that they
stored before it is there, and every restore point is what it was.  The daemon dies at
some moment of its work: making views, absorbing, committing, rolling back.
MSNAP_KILLS: how many times (30).
"""

import hashlib
import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import time

sys.dont_write_bytecode = True
from mountlib import Mount, NO_SAFETY, clone, numbers, read, rollback, snap

PAGE = 4096
PAGES = 100
SIZE = PAGES * PAGE + 100   # the end is inside of a block
STORERS = 3


def checksum(path):
    return hashlib.sha256(read(path)).digest()


# ---- programs --------------------------------------------------------------------

def start(target, *args):
    pid = os.fork()
    if pid:
        return pid
    try:
        target(*args)
    finally:
        os._exit(1)


def store(path, said, i):
    """n to all pages, then to the end, then say n; every tenth time after msync."""
    fd = os.open(path, os.O_RDWR)
    mem = mmap.mmap(fd, SIZE)
    os.close(fd)
    first, last, tell = numbers(mem), numbers(mem, SIZE - 8), numbers(said)
    n = last[0]
    while True:
        n += 1
        for page in range(PAGES):
            first[page * PAGE // 8] = n
        last[0] = n
        tell[i] = n
        if n % 10 == 0:
            mem.flush()
            tell[32 + i] = n


def open_and_close(m, i):
    """Views come and go: opened for writing, changed in every way, and closed."""
    rand = random.Random(i)
    while True:
        path = m.dir + "/short-%d" % rand.randrange(4)
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        os.ftruncate(fd, rand.randrange(1, 400_000))
        mem = mmap.mmap(fd, 0)
        mem[0] = 1
        mem.close()
        os.close(fd)
        fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.write(fd, b"more")
        os.close(fd)
        if rand.randrange(10) == 0:
            os.unlink(path)


def make_points(m, pipe):
    """Restore points, and what is in them, as soon as they are taken."""
    n = 0
    os.close(pipe[0])
    while True:
        n += 1
        name = "p%d-%d" % (os.getpid(), n)
        i = n % STORERS
        if n % 4 == 3:
            clone(m.dir + "/stored-%d" % i, m.dir + "/clones/" + name)
            path = m.dir + "/clones/" + name
        elif n % 4 == 2:
            snap(m.dir, name)
            path = "%s/.snap/%s/stored-%d" % (m.dir, name, i)
        else:
            snap(m.dir, name, file="stored-%d" % i)
            path = "%s/.snap/%s/stored-%d" % (m.dir, name, i)
        os.write(pipe[1], ("%s %s\n" % (path, checksum(path).hex())).encode())
        if n % 16 == 1:
            # Only of what nobody stores to: what it brings is then known.
            snap(m.dir, name + "-r", file="idle")
            with open(m.dir + "/idle", "r+b") as f:
                f.write(os.urandom(100))
            rollback(m.dir, name + "-r", file="idle", flags=NO_SAFETY)


def make_points_or_end(m, pipe):
    try:
        make_points(m, pipe)
    except OSError:
        os._exit(0)     # the daemon has gone


def open_and_close_or_end(m, i):
    try:
        open_and_close(m, i)
    except OSError:
        os._exit(0)


# ---- one life of a daemon ----------------------------------------------------------

def said(memory, i, base=0):
    return struct.unpack_from("Q", memory, base + 8 * i)[0]


def counts(path):
    data = read(path)
    assert len(data) == SIZE, len(data)
    return ([struct.unpack_from("Q", data, page * PAGE)[0] for page in range(PAGES)] +
            [struct.unpack_from("Q", data, SIZE - 8)[0]])


def collect(reader, cuts):
    """All lines that came whole; points whose line was not written may be there."""
    data = b""
    while True:
        got = os.read(reader, 65536)
        if not got:
            break
        data += got
    for line in data.split(b"\n")[:-1]:
        path, digest = line.decode().split()
        cuts[path] = bytes.fromhex(digest)


def run_life(m, rand, memory, cuts):
    storers = [start(store, m.dir + "/stored-%d" % i, memory, i)
               for i in range(STORERS)]
    pipe = os.pipe()    # only one of the others is to have it
    others = [start(make_points_or_end, m, pipe)]
    os.close(pipe[1])
    others.append(start(open_and_close_or_end, m, 1))
    try:
        time.sleep(rand.uniform(0.02, 0.6))
        os.kill(m.daemon(), signal.SIGKILL)
        for pid in others:
            os.waitpid(pid, 0)
        others = []
        died = [said(memory, i) for i in range(STORERS)]
        time.sleep(rand.uniform(0, 0.1))
        collect(pipe[0], cuts)
        subprocess.run(["umount", "-l", m.dir], check=True)
        # All but the last go on while the pool is mounted again.
        os.kill(storers[-1], signal.SIGKILL)
        os.waitpid(storers.pop(), 0)
        before = [said(memory, i) for i in range(STORERS)]
        assert all(now >= then for now, then in zip(before, died))
        m.mount()
        after = [said(memory, i) for i in range(STORERS)]
    finally:
        os.close(pipe[0])
        for pid in storers + others:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return before, after


def check(m, before, after, memory, cuts, idle):
    for i in range(STORERS):
        seen = counts(m.dir + "/stored-%d" % i)
        assert min(seen) >= before[i], \
            "storer %d said %d, and this is there: %s" % (i, before[i], seen)
        assert max(seen) <= after[i] + 1, "a store that nobody made"
        assert min(seen) >= said(memory, i, 256) or before[i] < said(memory, i, 256)
    for path, digest in cuts.items():
        assert checksum(path) == digest, path + " has changed"
    # It was rolled back, or not yet.
    assert read(m.dir + "/idle")[100:] == idle[100:]
    rollback(m.dir, "begin", file="idle", flags=NO_SAFETY)
    assert read(m.dir + "/idle") == idle


def forget(m, cuts, keep):
    """Not too many at a time."""
    for path in list(cuts)[:-keep]:
        del cuts[path]
        if "/clones/" in path:
            os.unlink(path)
        else:
            os.rmdir(os.path.dirname(path))


def main():
    rand = random.Random(7)
    memory = mmap.mmap(-1, 4096)
    cuts = {}
    with Mount("1G") as m:
        for i in range(STORERS):
            with open(m.dir + "/stored-%d" % i, "wb") as f:
                f.truncate(SIZE)
        os.mkdir(m.dir + "/clones")
        idle = os.urandom(300_000)
        with open(m.dir + "/idle", "wb") as f:
            f.write(idle)
        os.sync()
        snap(m.dir, "begin")
        for life in range(int(os.environ.get("MSNAP_KILLS", "30"))):
            before, after = run_life(m, rand, memory, cuts)
            check(m, before, after, memory, cuts, idle)
            # What the next storer begins with is in the file now.
            for i in range(STORERS):
                struct.pack_into("Q", memory, 8 * i, min(counts(m.dir + "/stored-%d" % i)))
                struct.pack_into("Q", memory, 256 + 8 * i, 0)
            forget(m, cuts, 30)
        m.unmount()
        m.mount()
        for path, digest in cuts.items():
            assert checksum(path) == digest, path + " has changed"
        print("ok: %d deaths of the daemon, %d restore points and clones at the end" %
              (life + 1, len(cuts)))


if __name__ == "__main__":
    sys.exit(main())
