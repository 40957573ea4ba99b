#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Restore points of files that several processes are storing to through mappings.

Each writer counts: it stores n to every place of its file in turn, one place a
page, and then says n in memory that is shared with the test.  For a restore point
taken between two looks at that memory:

  - every store made before the call is in it: a writer that said n before the
    call has at least n in every place;
  - no later one is: no place has more than n + 1 of what the writer says
    afterwards;
  - it never changes, whatever the writers do then.

A writer that uses write(2) runs beside them; also clones are looked at.
"""

import mmap
import os
import signal
import struct
import subprocess
import sys
import time

sys.dont_write_bytecode = True
from mountlib import Mount, clone, numbers, snap

NR_WRITERS = 3
PAGES = 64
PAGE = 4096
ROUNDS = 30


def write_mapped(path, said, i):
    fd = os.open(path, os.O_RDWR)
    mem = mmap.mmap(fd, PAGES * PAGE)
    os.close(fd)
    place, tell = numbers(mem), numbers(said)
    n = 0
    while True:
        n += 1
        for page in range(PAGES):
            place[page * PAGE // 8 + n % 3] = n
        tell[i] = n


def write_calls(path, said, i):
    fd = os.open(path, os.O_RDWR)
    tell = numbers(said)
    n = 0
    while True:
        n += 1
        for page in range(PAGES):
            os.pwrite(fd, struct.pack("Q", n), page * PAGE + 8 * (n % 3))
        tell[i] = n


def places(path):
    """The highest count in each page of a file."""
    with open(path, "rb") as f:
        data = f.read()
    assert len(data) == PAGES * PAGE, len(data)
    return [max(struct.unpack_from("3Q", data, page * PAGE))
            for page in range(PAGES)]


def look(said):
    return [struct.unpack_from("Q", said, 8 * i)[0] for i in range(NR_WRITERS)]


def check_cut(what, counts, before, after):
    assert min(counts) >= before, \
        "%s lost a store: %d, said before %d" % (what, min(counts), before)
    assert max(counts) <= after + 1, \
        "%s has a later store: %d, said after %d" % (what, max(counts), after)


def take_and_check(m, said, r):
    """Taken as the whole, as one file, and as a clone, in turn."""
    before = look(said)
    if r % 3 == 0:
        snap(m.dir, "s%d" % r)
        which = range(NR_WRITERS)
        path = m.dir + "/.snap/s%d/f%d" % (r, 0)
        path = path[:-1] + "%d"
    elif r % 3 == 1:
        snap(m.dir, "s%d" % r, file="f%d" % (r % NR_WRITERS))
        which = [r % NR_WRITERS]
        path = m.dir + "/.snap/s%d/f%%d" % r
    else:
        clone(m.dir + "/f%d" % (r % NR_WRITERS), m.dir + "/c%d" % r)
        which = [r % NR_WRITERS]
        path = m.dir + "/c%d" % r + "%.0s"
    after = look(said)
    cut = {}
    for i in which:
        counts = places(path % i)
        check_cut("round %d, writer %d" % (r, i), counts, before[i], after[i])
        cut[path % i] = counts
    return cut


def start(target, *args):
    pid = os.fork()
    if pid:
        return pid
    try:
        target(*args)
    finally:
        os._exit(1)


def run(m):
    said = mmap.mmap(-1, 4096)
    for i in range(NR_WRITERS):
        with open(m.dir + "/f%d" % i, "wb") as f:
            f.truncate(PAGES * PAGE)
    pids = [start(write_calls if i == NR_WRITERS - 1 else write_mapped,
                  m.dir + "/f%d" % i, said, i) for i in range(NR_WRITERS)]
    try:
        while min(look(said)) < 3:
            time.sleep(0.01)
        cuts = {}
        for r in range(ROUNDS):
            cuts.update(take_and_check(m, said, r))
        for path, counts in cuts.items():
            assert places(path) == counts, path + " has changed"
        print("ok: %d cuts while %s stores were made" %
              (len(cuts), sum(look(said)) * PAGES))
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return cuts


def check_freed(m):
    """A file that was written back for a restore point goes when it is deleted."""
    before = os.statvfs(m.dir).f_bfree
    fd = os.open(m.dir + "/gone", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 32 << 20)
    mem = mmap.mmap(fd, 32 << 20)
    mem[:] = b"z" * (32 << 20)
    snap(m.dir, "brief", file="gone")
    os.rmdir(m.dir + "/.snap/brief")
    os.unlink(m.dir + "/gone")
    assert before - os.statvfs(m.dir).f_bfree > 4096
    mem.close()
    os.close(fd)
    for _ in range(100):
        if before - os.statvfs(m.dir).f_bfree < 1024:
            break
        time.sleep(0.1)
    assert before - os.statvfs(m.dir).f_bfree < 1024
    print("ok: deleted files are freed")


def check_covered(m):
    """Another mount lies on the mount point: no store is lost all the same."""
    fd = os.open(m.dir + "/under", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 1 << 20)
    mem = mmap.mmap(fd, 1 << 20)
    top = os.open(m.dir, os.O_RDONLY)
    subprocess.run(["mount", "-t", "tmpfs", "none", m.dir], check=True)
    try:
        mem[5000:5005] = b"store"
        snap("/proc/self/fd/%d" % top, "covered")
        mem[5000:5005] = b"later"
    finally:
        subprocess.run(["umount", m.dir], check=True)
    with open(m.dir + "/.snap/covered/under", "rb") as f:
        assert f.read()[5000:5005] == b"store"
    mem.close()
    os.close(top)
    os.close(fd)
    print("ok: a mount point that is covered")


def main():
    with Mount("512M") as m:
        check_freed(m)
        if os.getuid() == 0:
            check_covered(m)
        cuts = run(m)
        m.unmount()
        m.mount()
        for path, counts in cuts.items():
            assert places(path) == counts, path + " has changed by a remount"
        print("ok: unchanged after a remount")


if __name__ == "__main__":
    sys.exit(main())
