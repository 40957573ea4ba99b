#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything at once: processes that change, snapshot, clone and roll back one tree.

What each call does is not looked at: another may have been first.  But none may find
damage, no file may become unreadable, the daemon must go on, and fsck must find nothing
afterwards: after a clean end, and after the daemon was killed in the middle.

MSNAP_CHAOS: seconds for each of the two (8); MSNAP_SEED: repeats the choices, though
not their order.
"""

import errno
import mmap
import os
import random
import signal
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
from mountlib import (NO_SAFETY, Mount, RECURSIVE, REPLACE, clone, rollback, snap)

WORKERS = 6
DAMAGE = (errno.EIO, errno.EUCLEAN)


class Worker:
    def __init__(self, m, seed, until):
        self.m = m
        self.rand = random.Random(seed)
        self.seed = seed
        self.until = until
        self.held = []
        self.dirs = []
        self.serial = 0

    def path(self):
        path = self.m.dir + "/t"
        for _ in range(self.rand.randrange(1, 4)):
            path += "/" + self.rand.choice("abcd")
        return path

    def directory(self):
        return self.rand.choice((self.m.dir, self.m.dir + "/t", self.path()))

    def mkdir(self):
        os.mkdir(self.path())

    def rename(self):
        os.rename(self.path(), self.path())

    def write(self):
        with open(self.path(), "wb") as f:
            f.write(self.rand.randbytes(self.rand.choice((10, 5000, 300000))))

    def hold(self):
        self.held.append(os.open(self.path(), os.O_RDWR))
        if len(self.held) > 6:
            os.close(self.held.pop(0))

    def hold_directory(self):
        """One that is removed stays so for who has it open: EIO when its name is back."""
        self.dirs.append(os.open(self.path(), os.O_RDONLY | os.O_DIRECTORY))
        if len(self.dirs) > 6:
            os.close(self.dirs.pop(0))

    def store(self):
        fd = self.rand.choice(self.held)
        size = os.fstat(fd).st_size
        with mmap.mmap(fd, size) as mem:
            mem[self.rand.randrange(size)] = 1

    def truncate(self):
        os.truncate(self.path(), self.rand.randrange(100000))

    def link(self):
        os.link(self.path(), self.path())

    def unlink(self):
        os.unlink(self.path())

    def rmdir(self):
        os.rmdir(self.path())

    def snap(self):
        self.serial += 1
        snap(self.directory(), "s%d-%d-%d" % (self.seed, self.serial, os.getpid()))

    def rollback(self):
        of = self.directory()
        rollback(of, self.rand.choice(os.listdir(of + "/.snap")),
                 flags=self.rand.choice((0, NO_SAFETY)))

    def forget(self):
        of = self.directory()
        for name in os.listdir(of + "/.snap")[:-6]:
            os.rmdir(of + "/.snap/" + name)

    def clone(self):
        clone(self.path(), self.path(), RECURSIVE | self.rand.choice((0, REPLACE)))

    def share(self):
        src = os.open(self.path(), os.O_RDWR)
        self.held.append(src)
        dst = os.open(self.path(), os.O_RDWR | os.O_CREAT)
        self.held.append(dst)
        os.copy_file_range(src, dst, self.rand.randrange(200000))

    def look(self):
        for path, _, names in os.walk(self.directory()):
            for name in names:
                with open(path + "/" + name, "rb") as f:
                    f.read()

    def sync(self):
        os.fsync(self.rand.choice(self.held))

    def run(self):
        calls = [self.mkdir, self.mkdir, self.rename, self.write, self.hold,
                 self.hold_directory, self.store, self.truncate, self.link,
                 self.unlink, self.rmdir, self.snap, self.rollback, self.forget,
                 self.clone, self.share, self.look, self.sync]
        while time.time() < self.until:
            call = self.rand.choice(calls)
            try:
                call()
            except (IndexError, ValueError):
                pass    # nothing to choose from, nothing to map
            except OSError as e:
                if e.errno in (errno.ENOTCONN, errno.ECONNABORTED):
                    return
                if e.errno in DAMAGE:
                    raise OSError(e.errno, call.__name__, e.filename) from e


def work(m, seed, until):
    try:
        Worker(m, seed, until).run()
    except BaseException as e:  # pylint: disable=broad-except
        print("worker %d: %r" % (seed, e), flush=True)
        os._exit(1)
    os._exit(0)


def start(m, seed, until):
    pid = os.fork()
    if not pid:
        work(m, seed, until)
    return pid


def load(m, rand, until):
    """WORKERS processes until then.  A store behind the end that a file has by now
    is a SIGBUS: another one goes on."""
    running = {start(m, rand.randrange(1 << 30), until) for _ in range(WORKERS)}
    while running:
        pid, status = os.wait()
        if pid not in running:
            continue
        running.remove(pid)
        if status == signal.SIGBUS and time.time() < until:
            running.add(start(m, rand.randrange(1 << 30), until))
        else:
            assert status in (0, signal.SIGBUS), "a worker failed: %#x" % status


def nr_threads(pid):
    """Of a process that is being killed; without the first, which waits for others."""
    try:
        return len(os.listdir("/proc/%d/task" % pid)) - 1
    except FileNotFoundError:
        return 0


def kill_daemon(m, after):
    """It must go, whatever its threads were waiting for, or all hang for ever."""
    time.sleep(after)
    pid = m.daemon()
    os.kill(pid, signal.SIGKILL)
    for _ in range(1000):
        if not nr_threads(pid):
            return
        time.sleep(0.02)
    print("the daemon cannot die", flush=True)
    os._exit(1)


def fsck(m):
    out = subprocess.run(["fsck.memsnapfs", "-n", "-f", m.pool],
                         stdout=subprocess.PIPE, text=True)
    assert out.returncode == 0, out.stdout


def read_all(m):
    nr = 0
    for top in m.dir, m.dir + "/.snap":
        for path, _, names in os.walk(top):
            for name in names:
                with open(path + "/" + name, "rb") as f:
                    f.read()
                nr += 1
    return nr


def main():
    seconds = float(os.environ.get("MSNAP_CHAOS", "8"))
    seed = int(os.environ.get("MSNAP_SEED", time.time_ns() % 10**6))
    rand = random.Random(seed)
    print("seed %d" % seed, flush=True)
    with Mount("400M") as m:
        os.mkdir(m.dir + "/t")
        load(m, rand, time.time() + seconds)
        m.unmount()
        fsck(m)
        m.mount()
        print("ok: nothing is wrong after a clean end; %d files" % read_all(m),
              flush=True)
        killer = threading.Thread(target=kill_daemon,
                                  args=(m, seconds * (0.5 + rand.random() / 2)))
        killer.start()
        load(m, rand, time.time() + seconds)
        killer.join()
        m.unmount()
        fsck(m)
        m.mount()
        print("ok: nothing is wrong after the daemon was killed; %d files" %
              read_all(m), flush=True)


if __name__ == "__main__":
    sys.exit(main())
