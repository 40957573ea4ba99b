#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon dies at every step of what it does with views (direct mode).

crash-daemon kills itself at a place that MSNAP_CRASH_AT names.  A program works with a
file in all the ways that move its contents between pool and view, until the daemon has
gone; it goes on storing through its mapping.  After the next mount, by the daemon as it
is, everything that was stored is there, and every restore point and clone that was
promised; fsck has nothing to say.
"""

import mmap
import os
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
from mountlib import Mount, NO_SAFETY, clone, rollback, snap

PAGE = 4096
SIZE = 40 * PAGE * 10 + 100     # the end is inside of a block
STRIDE = 10 * PAGE
RACE = 5 * PAGE                 # where somebody stores all the time: anything goes

# A place, and how many times at most it is passed before the daemon dies there.
PLACES = {
    "VIEW_FILLED": 2, "LIST": 2, "LIST_ADDED": 2, "LIST_DURABLE": 2,
    "ABSORB": 4, "ABSORB_SYNCED": 4, "ABSORB_FROZEN": 2, "SHARE": 7, "SHARED": 3,
    "IMPORTED": 3, "ABSORBED": 3, "COMMIT": 4, "COMMIT_DRAINED": 4, "COMMITTED": 4,
    "DROP_UNLISTED": 1, "DROP_DURABLE": 1, "REFRESH": 1, "REFRESHED": 1,
    "END": 1, "END_DURABLE": 1,
}
RECOVERY = {
    "ABSORB": 1, "ABSORB_SYNCED": 1, "SHARE": 3, "SHARED": 1, "IMPORTED": 1,
    "RECOVER_ABSORBED": 1, "RECOVER_UNLISTED": 1, "COMMIT": 1, "COMMIT_DRAINED": 1,
    "COMMITTED": 1, "RECOVER_DURABLE": 1, "RECOVERED": 1,
}


def read(path):
    with open(path, "rb") as f:
        data = f.read()
    return data[:RACE] + bytes(8) + data[RACE + 8:]


def is_open(m):
    out = subprocess.run(["msnapfs", "info", "--json", m.dir], check=True,
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return b'"open_files": 0' not in out.stdout


def truncate(path, size):
    """Durably."""
    os.truncate(path, size)
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


class Program:
    """What it knows: the contents that the file may have, and those of its points."""

    def __init__(self, m):
        self.m = m
        self.path = m.dir + "/file"
        self.old = None     # what it may have instead, while something is under way
        self.points = {}
        self.mem = None
        self.n = 0
        self.now = bytes(SIZE)

    def map(self):
        fd = os.open(self.path, os.O_RDWR)
        self.mem = mmap.mmap(fd, SIZE)
        os.close(fd)

    def unmap(self):
        self.mem.close()
        self.mem = None
        while is_open(self.m):
            time.sleep(0.01)

    def store(self):
        """In places that lie apart, and at the end."""
        self.n += 1
        now = bytearray(self.now)
        for i in range(self.n % 3, 40, 5):
            what = b"%08d" % (self.n * 1000 + i)
            now[i * STRIDE:i * STRIDE + 8] = what
            self.mem[i * STRIDE:i * STRIDE + 8] = what
        now[SIZE - 8:] = b"%08d" % self.n
        self.mem[SIZE - 8:] = b"%08d" % self.n
        self.now = bytes(now)

    def change(self, contents, call, *args, **kwargs):
        """A call that exchanges the contents: before or after, not between."""
        self.old = self.now
        self.now = contents
        call(*args, **kwargs)
        self.old = None

    def point(self, name):
        snap(self.m.dir, name, file="file")
        self.points[self.m.dir + "/.snap/" + name + "/file"] = self.now

    def point_of_busy(self, name):
        pid = os.fork()
        if not pid:
            os.nice(-20)        # it must be storing while the daemon looks
            n = 0
            while True:
                n += 1
                self.mem[RACE:RACE + 8] = b"%08d" % (n % 10**8)
        try:
            while self.mem[RACE:RACE + 8] == bytes(8):
                time.sleep(0.001)
            for i in range(4):
                self.point(name + str(i))
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def clone(self, name):
        clone(self.path, self.m.dir + "/" + name)
        self.points[self.m.dir + "/" + name] = self.now

    def work(self):
        self.map()
        self.store()
        self.point("one")
        self.store()
        self.clone("two")
        self.store()
        self.point_of_busy("busy")
        self.mem.flush()
        self.store()
        self.unmap()            # absorbed at the close
        self.change(self.now[:SIZE - 9000], truncate, self.path, SIZE - 9000)
        self.change(self.now.ljust(SIZE, b"\0"), truncate, self.path, SIZE)
        self.map()
        self.store()
        self.change(self.points[self.m.dir + "/.snap/one/file"], rollback, self.m.dir,
                    "one", file="file", flags=NO_SAFETY)
        self.store()
        self.point("three")
        self.store()

    def check(self):
        seen = read(self.path)
        assert seen in (self.now, self.old), "the file is not what was stored"
        for path, want in self.points.items():
            assert read(path) == want, path


def start(m, where):
    """The daemon that dies there; False: in its mount."""
    env = dict(os.environ, MSNAP_CRASH_AT=where)
    env["PATH"] = m.top + ":" + env["PATH"]
    return subprocess.run(["mount.memsnapfs", m.pool, m.dir, "-o", "mode=direct"],
                          env=env, stderr=subprocess.DEVNULL).returncode == 0


def wait_died(m):
    for _ in range(1000):
        if not m.is_busy():
            return
        time.sleep(0.01)
    raise AssertionError("the daemon is still there")


def fresh(m):
    """As new, but for the pool's past."""
    for name in os.listdir(m.dir + "/.snap"):
        os.rmdir(m.dir + "/.snap/" + name)
    for name in os.listdir(m.dir):
        os.unlink(m.dir + "/" + name)
    with open(m.dir + "/file", "wb") as f:
        f.truncate(SIZE)
        os.fsync(f.fileno())


def after(m, p):
    """The daemon has gone: the program goes on."""
    wait_died(m)
    if p.mem and p.old is None:
        p.store()
    subprocess.run(["umount", "-l", m.dir], stderr=subprocess.DEVNULL)


def look(m, p, where):
    """After the next mount all is found."""
    m.mount()
    try:
        p.check()
    except AssertionError as e:
        raise AssertionError("%s: %s" % (where, e))
    if p.mem:
        p.mem.close()
    fresh(m)
    m.unmount()
    out = subprocess.run(["fsck.memsnapfs", "-n", m.pool], stdout=subprocess.PIPE)
    assert out.returncode == 0, "%s: %s" % (where, out.stdout.decode())


def run(m, where):
    """False: the daemon never came to that place."""
    p = Program(m)
    assert start(m, where), "no mount"
    died = False
    try:
        p.work()
        p.mem.close()
        p.mem = None
        os.kill(m.daemon(), signal.SIGTERM)
        wait_died(m)
        # An end that was not cut short leaves nothing to do.
        died = bool(os.path.exists(m.pool + ".views"))
    except (OSError, subprocess.CalledProcessError):
        died = True
    after(m, p)
    look(m, p, where)
    return died


def run_recovery(m, where):
    p = Program(m)
    m.mount()
    p.map()
    p.store()
    p.point("one")
    p.store()
    p.mem.flush()
    os.kill(m.daemon(), signal.SIGKILL)
    after(m, p)
    # The mount is the cut: what is stored later goes to a file that nobody has any more.
    mounted = start(m, where)
    if mounted:
        os.kill(m.daemon(), signal.SIGKILL)
    wait_died(m)
    subprocess.run(["umount", "-l", m.dir], stderr=subprocess.DEVNULL)
    look(m, p, where)
    return not mounted


def main():
    build = os.environ.get("MSNAP_BUILD", ".")
    deaths = 0
    with Mount("256M") as m:
        os.symlink(os.path.abspath(build + "/tests/mount/crash-daemon"),
                   m.top + "/mount.memsnapfs")
        fresh(m)
        m.unmount()
        for what, places in ((run, PLACES), (run_recovery, RECOVERY)):
            for place, most in places.items():
                for n in range(1, most + 1):
                    died = what(m, "%s:%d" % (place, n))
                    # Whether it meets a store depends on the storing program.
                    for _ in range(30):
                        died = died or n > 1 or what(m, "%s:%d" % (place, n))
                    assert died or n > 1, "%s: it never came there" % place
                    deaths += bool(died)
        m.mount()
    print("ok: %d deaths at %d places" % (deaths, len(PLACES) + len(RECOVERY)))


if __name__ == "__main__":
    sys.exit(main())
