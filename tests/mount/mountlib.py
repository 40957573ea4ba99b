# SPDX-License-Identifier: GPL-2.0-or-later
"""What the Python tests of the mounted filesystem share.

with Mount() as m: a fresh pool, mounted at m.dir.  And the ioctls of control.h,
built with struct, as any program could.
"""

import fcntl
import json
import mmap
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time

SNAP = 0xC4004D02
SNAP_DELETE = 0x40E04D03
SNAP_RENAME = 0x41B04D04
ROLLBACK = 0xC2B04D06
REF = 0x80104D07
CLONE = 0xC1304D08
INFO = 0x87D04D01
SNAP_LIST = 0xF2104D05
FILE = 0x80804D09
SCRUB = 0xC0C04D0A
SCRUB_LIST = 0xE7D04D0B

# Those that only look, when their argument is all zeros; and how large it is.
LOOKING = {INFO: 2000, SNAP_LIST: 12816, REF: 16, FILE: 128, SCRUB: 192,
           SCRUB_LIST: 10192}

SNAP_MORE = 1
NO_SAFETY = 1
REPLACE = 1
RECURSIVE = 2


def numbers(mem, off=0):
    """64-bit numbers in shared memory, each stored at once.

    (struct.pack_into() clears the place first: whoever looks then sees 0.)
    """
    part = memoryview(mem)[off:]
    return part[:len(part) // 8 * 8].cast("Q")


def open_dir(path):
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY)


def text(raw):
    return bytes(raw).split(b"\0")[0].decode()


def snap(path, name="", file="", comment="", group=0, flags=0):
    """Take a restore point: its name, or with SNAP_MORE the group."""
    arg = bytearray(struct.pack("208s520s256sQQQI12x", name.encode(),
                                comment.encode(), file.encode(), group, 0, 0,
                                flags))
    fd = open_dir(path)
    try:
        fcntl.ioctl(fd, SNAP, arg)
    finally:
        os.close(fd)
    if flags & SNAP_MORE:
        return struct.unpack_from("Q", arg, 984)[0]
    return text(arg[:208])


def rollback(path, name, file="", flags=0):
    """Roll back: the name of the safety restore point."""
    arg = bytearray(struct.pack("208s256s208sI12x", name.encode(),
                                file.encode(), b"", flags))
    fd = open_dir(path)
    try:
        fcntl.ioctl(fd, ROLLBACK, arg)
    finally:
        os.close(fd)
    return text(arg[464:672])


def clone(src, dst, flags=0):
    """Clone: the inode number of the clone."""
    ref = bytearray(16)
    fd = open_dir(os.path.dirname(dst))
    fcntl.ioctl(fd, REF, ref)
    os.close(fd)
    arg = bytearray(struct.pack("16s256sQI20x", bytes(ref),
                                os.path.basename(dst).encode(), 0, flags))
    fd = os.open(src, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, CLONE, arg)
    finally:
        os.close(fd)
    return struct.unpack_from("Q", arg, 272)[0]


def read(path):
    with open(path, "rb") as f:
        return f.read()


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


def map_file(path, size=None):
    """Open for reading and writing, and mapped: (descriptor, mapping)."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    if size is not None:
        os.ftruncate(fd, size)
    return fd, mmap.mmap(fd, os.fstat(fd).st_size)


def info(path):
    """What msnapfs info tells."""
    out = subprocess.run(["msnapfs-info", "--json", path], check=True,
                         stdout=subprocess.PIPE)
    return json.loads(out.stdout)


def fails(number, call, *args):
    try:
        call(*args)
    except OSError as e:
        assert e.errno == number, e
        return
    raise AssertionError("no error")


class Mount:
    """A pool of its own in a directory of its own."""

    def __init__(self, size="512M", options=()):
        build = os.environ.get("MSNAP_BUILD")
        if build:
            os.environ["PATH"] = (os.path.abspath(build) + ":" +
                                  os.environ["PATH"])
        if not os.path.exists("/dev/fuse"):
            print("skipped: there is no /dev/fuse")
            sys.exit(77)
        self.top = tempfile.mkdtemp(
            prefix="memsnapfs-py.",
            dir=os.environ.get("MSNAP_TMP",
                               os.environ.get("TMPDIR", "/var/tmp")))
        self.pool = self.top + "/pool"
        self.dir = self.top + "/mnt"
        os.mkdir(self.dir)
        self.options = list(options)
        subprocess.run(["mkfs.memsnapfs", "-s", size, self.pool], check=True,
                       stdout=subprocess.DEVNULL)

    def mount(self):
        subprocess.run(["mount.memsnapfs", self.pool, self.dir] + self.options,
                       check=True)

    def daemon(self):
        """Its process.  For a moment its guard has the same name, and is younger."""
        out = subprocess.run(["pgrep", "-o", "-f", "mount.memsnapfs " + self.pool],
                             check=True, stdout=subprocess.PIPE)
        return int(out.stdout)

    def is_busy(self):
        out = subprocess.run(["pgrep", "-f", "mount.memsnapfs " + self.pool],
                             stdout=subprocess.DEVNULL)
        return out.returncode == 0

    def unmount(self):
        if subprocess.run(["umount", self.dir]).returncode:
            subprocess.run(["umount", "-l", self.dir])
        while self.is_busy():
            time.sleep(0.02)

    def __enter__(self):
        self.mount()
        return self

    def __exit__(self, kind, *rest):
        os.chdir("/")
        if kind:
            # What failed may still have files open: no clean end is possible.
            subprocess.run(["pkill", "-9", "-f",
                            "mount.memsnapfs " + self.pool])
        self.unmount()
        shutil.rmtree(self.top)
