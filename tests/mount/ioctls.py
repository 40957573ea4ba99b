#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Garbage in every ioctl: of any number, size and content, on any kind of file.

None succeeds that changes something, the daemon goes on, holds no more memory, files or
threads than before, and all that is there is what it was.  Root, who may do everything,
is given arguments that are malformed; a user, who may do nothing, ones that are right
but for one or two places.
"""

import errno
import fcntl
import hashlib
import os
import random
import struct
import subprocess
import sys
import time
import traceback

sys.dont_write_bytecode = True
import mountlib
from mountlib import Mount, open_dir, snap

ROUNDS = int(os.environ.get("MSNAP_ROUNDS", "3000"))
USER = 65534
SPACE = 16384  # more than an ioctl can ask for

# What changes something: number, size, where its reserved bytes are.
CHANGING = [
    (mountlib.SNAP, 1024, range(1012, 1024)),
    (mountlib.SNAP_DELETE, 224, range(208, 224)),
    (mountlib.SNAP_RENAME, 432, range(416, 432)),
    (mountlib.ROLLBACK, 688, range(676, 688)),
    (mountlib.CLONE, 304, range(284, 304)),
]
NUMBERS = [number for number, _, _ in CHANGING] + list(mountlib.LOOKING)
REFUSED = {errno.EINVAL, errno.ENOTTY, errno.ENAMETOOLONG, errno.EPERM, errno.EACCES,
           errno.ENOTDIR, errno.EROFS, errno.ESTALE, errno.ENOENT, errno.EEXIST,
           errno.EISDIR, errno.EBADF, errno.ENOSYS}


def try_one(fd, number, arg):
    """0 or the errno."""
    buf = bytearray(SPACE)
    buf[:len(arg)] = arg
    try:
        fcntl.ioctl(fd, number, buf)
        return 0
    except OSError as err:
        assert err.errno in REFUSED, "ioctl %#x: %s" % (number, err)
        return err.errno


# ---- arguments ----------------------------------------------------------------------

def noise(rng, size):
    kind = rng.randrange(5)
    if kind == 0:
        return bytes([rng.choice((0xff, 0x01, 0x80, 0x41, 0x2f))]) * size
    if kind == 1:
        return bytes(rng.choice((0, 0, 0, 0x2e, 0x2f, 0xff, 0x61)) for _ in range(size))
    return rng.randbytes(size)


def malformed(rng):
    """For root: a call that must not succeed, whatever else is in it."""
    number, size, reserved = rng.choice(CHANGING)
    arg = bytearray(noise(rng, size))
    for _ in range(rng.randrange(1, 4)):
        arg[rng.choice(reserved)] = rng.randrange(1, 256)
    return number, arg


def other(rng):
    """Numbers and sizes that there are not; those that only look."""
    kind = rng.randrange(3)
    if kind == 0:
        return rng.choice(list(mountlib.LOOKING)), noise(rng, SPACE)
    if kind == 1:
        number = rng.choice(NUMBERS) & ~(0x3fff << 16) | rng.randrange(1 << 14) << 16
    else:
        number = rng.randrange(4) << 30 | rng.randrange(1 << 14) << 16 | \
            ord("M") << 8 | rng.randrange(256)
    # A scrub may be begun by root: that is no garbage.
    return (number, noise(rng, SPACE)) if number not in NUMBERS else (0, b"")


def name(rng, size):
    out = rng.choice((b"rp", b"file", b"new", b"secret", b"..", b".", b"", b"a/b",
                      b".snap", b"x" * (size - 1), b"x" * size, b"\xff\xfe",
                      rng.randbytes(8)))
    return out[:size].ljust(size, b"\0")


def almost_right(rng, ref):
    """For the user: what root could do."""
    kind = rng.randrange(5)
    flags = rng.choice((0, 0, 0, 1, 2, 3, 0xffffffff))
    if kind == 0:
        arg = struct.pack("208s520s256sQQQI12x", name(rng, 208), name(rng, 520),
                          name(rng, 256), rng.choice((0, 0, rng.getrandbits(64))), 0, 0,
                          flags)
    elif kind == 1:
        arg = struct.pack("208s16x", name(rng, 208))
    elif kind == 2:
        arg = struct.pack("208s208s16x", name(rng, 208), name(rng, 208))
    elif kind == 3:
        arg = struct.pack("208s256s208sI12x", name(rng, 208), name(rng, 256), b"", flags)
    else:
        arg = struct.pack("16s256sQI20x", rng.choice((ref, bytes(16), rng.randbytes(16))),
                          name(rng, 256), 0, flags)
    arg = bytearray(arg)
    for _ in range(rng.choice((0, 0, 1, 2))):
        arg[rng.randrange(len(arg))] = rng.randrange(256)
    return CHANGING[kind][0], arg


# ---- what there is --------------------------------------------------------------------

def make_world(top):
    os.chmod(top, 0o755)
    os.mkdir(top + "/sub")
    for path, mode in (("/file", 0o644), ("/secret", 0o600), ("/sub/file", 0o644),
                       ("/drop", 0o666)):
        with open(top + path, "wb") as f:
            f.write(path.encode() * 1000)
        os.chmod(top + path, mode)
    snap(top, "rp")
    snap(top + "/sub", "rp2")


def digest(top):
    """Names, modes, owners and contents, in the restore points, too."""
    out = hashlib.sha256()
    for base in [top] + [top + "/.snap/" + s for s in sorted(os.listdir(top + "/.snap"))]:
        for folder, dirs, files in os.walk(base):
            dirs.sort()
            for entry in sorted(files) + dirs:
                path = os.path.join(folder, entry)
                st = os.lstat(path)
                out.update(b"%s %o %d %d %d" % (path.encode(), st.st_mode, st.st_uid,
                                                st.st_size, st.st_nlink))
                if entry in files:
                    with open(path, "rb") as f:
                        out.update(f.read())
    out.update(repr(sorted(os.listdir(top + "/sub/.snap"))).encode())
    return out.hexdigest()


def open_all(top, user):
    """One descriptor of each kind."""
    fds = [open_dir(top), open_dir(top + "/sub"), open_dir(top + "/.snap"),
           open_dir(top + "/.snap/rp"), open_dir(top + "/.snap/rp/sub"),
           os.open(top + "/file", os.O_RDONLY), os.open(top + "/drop", os.O_WRONLY),
           os.open(top + "/.snap/rp/file", os.O_RDONLY)]
    if not user:
        fds.append(os.open(top + "/secret", os.O_RDWR))
    return fds


def by_root(top, rng):
    fds = open_all(top, False)
    for _ in range(ROUNDS):
        number, arg = malformed(rng)
        got = try_one(rng.choice(fds), number, arg)
        assert got, "ioctl %#x with reserved bytes set succeeded" % number
        number, arg = other(rng)
        try_one(rng.choice(fds), number, arg)
    for fd in fds:
        os.close(fd)


def by_user(top, rng):
    """In a process of the user: it has no right to change anything."""
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    fds = open_all(top, True)
    ref = bytearray(16)
    fcntl.ioctl(fds[1], mountlib.REF, ref)
    for turn in range(ROUNDS):
        number, arg = almost_right(rng, bytes(ref))
        got = try_one(rng.choice(fds), number, arg)
        assert got, "ioctl %#x succeeded: %s" % (number, bytes(arg).hex())
        if turn % 50 == 0:
            # A thousand references push out the oldest.
            fcntl.ioctl(fds[1], mountlib.REF, ref)


def in_child(call, *args):
    pid = os.fork()
    if not pid:
        try:
            call(*args)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0, "a round failed"


def holdings(pid):
    """Memory in KiB, descriptors, threads."""
    with open("/proc/%d/status" % pid, encoding="ascii") as f:
        status = dict(line.split(":", 1) for line in f)
    return (int(status["RssAnon"].split()[0]), len(os.listdir("/proc/%d/fd" % pid)),
            int(status["Threads"]))


def main():
    seed = int(os.environ.get("MSNAP_SEED", time.time_ns() % 1000000))
    print("MSNAP_SEED=%d" % seed)
    rng = random.Random(seed)
    root = os.getuid() == 0
    options = ["-o", "allow_other"] if root else []
    if "MSNAP_TMP" in os.environ:
        os.chmod(os.environ["MSNAP_TMP"], 0o755)
    with Mount("64M", options) as m:
        os.chmod(m.top, 0o755)
        make_world(m.dir)
        before = digest(m.dir)
        pid = m.daemon()
        # Threads and buffers come first.
        in_child(by_root, m.dir, random.Random(seed))
        rss, fds, threads = holdings(pid)
        in_child(by_root, m.dir, rng)
        if root:
            in_child(by_user, m.dir, rng)
        assert m.daemon() == pid
        more, fds_now, threads_now = holdings(pid)
        assert fds_now <= fds + 2 and threads_now <= threads + 2, "%d %d, %d %d" % (
            fds, fds_now, threads, threads_now)
        assert more < rss + 4096, "%d KiB, %d before" % (more, rss)
        assert digest(m.dir) == before, "something changed"
        print("ok: %d rounds each; %d KiB held, %d before" % (ROUNDS, more, rss))
        m.unmount()
        subprocess.run(["fsck.memsnapfs", "-nfc", m.pool], check=True)
        m.mount()
        assert digest(m.dir) == before


main()
