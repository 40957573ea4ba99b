#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine dies when a call has returned: the promises of docs/GUARANTEES.md, as in
kept.py, on a pool in a file on XFS.

XFS in an image is told to shut down, without a last look at its log: whatever it had not
written is lost, as in a power cut.  The daemon is killed, XFS mounted and recovered, then
the pool.  In cached mode, and in direct mode.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
import kept
from mountlib import Mount

if os.getuid() != 0 or subprocess.run(["losetup", "--find"],
                                      stdout=subprocess.DEVNULL).returncode:
    print("skipped: only root can mount an image by a loop device")
    sys.exit(77)


class Host:
    """An XFS in an image that has no name: nothing is left of it."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="memsnapfs-host.",
                                    dir=os.environ.get("MSNAP_TMP", "/var/tmp"))
        with tempfile.NamedTemporaryFile() as image:
            image.truncate(512 << 20)
            subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", image.name], check=True)
            self.loop = subprocess.run(["losetup", "--find", "--show", image.name],
                                       check=True, stdout=subprocess.PIPE,
                                       text=True).stdout.strip()
        self.mount()

    def mount(self):
        subprocess.run(["mount", self.loop, self.dir], check=True)

    def unmount(self):
        for _ in range(500):
            if not subprocess.run(["umount", self.dir],
                                  stderr=subprocess.DEVNULL).returncode:
                return
            time.sleep(0.02)
        subprocess.run(["umount", "-l", self.dir])

    def die(self):
        subprocess.run(["xfs_io", "-x", "-c", "shutdown", self.dir], check=True)

    def end(self):
        self.unmount()
        subprocess.run(["losetup", "-d", self.loop])
        os.rmdir(self.dir)


def power_cut(host, m, case):
    d = m.dir + "/" + case.__name__
    os.mkdir(d)
    kept.sync_dir(m.dir)
    run = case(d)
    next(run)
    pid, _ = kept.daemon_of(m)
    host.die()
    os.kill(pid, signal.SIGKILL)
    m.unmount()
    host.unmount()
    host.mount()
    subprocess.run(["fsck.memsnapfs", "-nc", m.pool], check=True,
                   stdout=subprocess.DEVNULL)
    m.mount()
    next(run, None)
    print("ok: power cut after: " + case.__name__, flush=True)


def run_all(host, options, cases):
    print("with " + options)
    with Mount("128M", ["-o", options]) as m:
        subprocess.run(["sync", "-f", host.dir], check=True)
        for case in cases:
            power_cut(host, m, case)


def main():
    host = Host()
    os.environ["MSNAP_TMP"] = host.dir
    try:
        run_all(host, "mode=cached", kept.KILLED)
        # Contents that lie in views are synced each for itself.
        run_all(host, "mode=direct", [case for case in kept.KILLED
                                      if case is not kept.fsync_of_another])
    finally:
        host.end()


main()
