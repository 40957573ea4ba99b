#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""kill -9 of the daemon in the middle of a write load, again and again.

Processes write, map, fsync, rename, and take and delete restore points, and tell what is
certain as soon as a call has returned: an fsync'ed file with its contents, a restore point
with the checksums of what is in it.  At some moment the daemon dies.  After the next
mount everything that was certain must be there, byte for byte; what was under way may be
there or not.  Nor does the checker find anything wrong with what is left.
MSNAP_KILLS: how many times (20).
"""

import hashlib
import json
import mmap
import os
import random
import signal
import subprocess
import sys
import time
import traceback

sys.dont_write_bytecode = True
from mountlib import Mount, clone, snap

WRITERS = 3
FILES = 6               # of each writer
LARGEST = 3 << 20


class Diary:
    """What is certain, in a file outside of the mount, one line for each thing."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(self, *words):
        os.write(self.fd, (json.dumps(words) + "\n").encode())


def read_diary(path):
    with open(path, "rb") as f:
        return [json.loads(line) for line in f if line.endswith(b"\n")]


def checksum(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def checksums(folder):
    return {name: checksum(folder + "/" + name) for name in os.listdir(folder)}


def sync_dir(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


# ---- the load ------------------------------------------------------------------

def write_some(fd, rng, size):
    """A few changes by write(2) and through a mapping."""
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(size)
        os.pwrite(fd, rng.randbytes(min(rng.randrange(1, 200000), size - at)), at)
    with mmap.mmap(fd, size) as mem:
        for _ in range(rng.randrange(20)):
            at = rng.randrange(size - 8)
            mem[at:at + 8] = rng.randbytes(8)


def change(path, rng, diary):
    """Change the file and fsync it; it is in doubt in between."""
    diary.note("doubt", path)
    size = rng.randrange(9, LARGEST)
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, size)
    write_some(fd, rng, size)
    os.fsync(fd)
    os.close(fd)
    diary.note("file", path, checksum(path))


def replace(path, rng, diary):
    """As editors save: a new file takes the old one's place, and is never missing."""
    diary.note("doubt", path)
    new = path + ".new"
    with open(new, "wb") as f:
        f.write(rng.randbytes(rng.randrange(9, 300000)))
        f.flush()
        os.fsync(f.fileno())
    os.rename(new, path)
    sync_dir(os.path.dirname(path))
    diary.note("file", path, checksum(path))


def restore_point(folder, names, rng, diary):
    """Of a directory that only this process changes: what is in it is known."""
    if len(names) > 3:
        name = names.pop(rng.randrange(len(names)))
        diary.note("gone", folder, name)
        os.rmdir("%s/.snap/%s" % (folder, name))
    name = snap(folder, "p%d-%d" % (os.getpid(), rng.randrange(10 ** 9)))
    names.append(name)
    live = checksums(folder)
    diary.note("point", folder, name, live)


def branch(path, rng, diary):
    """A clone is durable when the call returns."""
    copy = path + ".clone"
    diary.note("doubt", copy)
    if os.path.exists(copy):
        os.unlink(copy)
    clone(path, copy)
    diary.note("file", copy, checksum(path))


def write_load(folder, seed, diary_path):
    """Until the daemon dies."""
    rng = random.Random(seed)
    diary = Diary(diary_path)
    try:
        names = os.listdir(folder + "/.snap")
        while True:
            path = "%s/%d" % (folder, rng.randrange(FILES))
            kind = rng.random()
            if kind < 0.55:
                change(path, rng, diary)
            elif kind < 0.75:
                replace(path, rng, diary)
            elif kind < 0.85 and os.path.exists(path):
                branch(path, rng, diary)
            else:
                restore_point(folder, names, rng, diary)
    except OSError:
        # The daemon is dead: everything fails from now on.
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    # Not to the end of the parent's program, which unmounts and removes all.
    os._exit(1)


# ---- what must be there --------------------------------------------------------

def certain(diary):
    """Files and restore points that must be there, with their checksums."""
    files, points = {}, {}
    for what, *words in diary:
        if what == "file":
            files[words[0]] = words[1]
        elif what == "doubt":
            files.pop(words[0], None)
        elif what == "point":
            points["%s/.snap/%s" % (words[0], words[1])] = words[2]
        else:
            points.pop("%s/.snap/%s" % tuple(words), None)
    return files, points


def check(folder, diary_path):
    diary = read_diary(diary_path)
    files, points = certain(diary)
    for path, want in files.items():
        assert checksum(path) == want, path + " is not what was fsync'ed"
    for point, want in points.items():
        got = checksums(point)
        assert got == want, "%s: %s" % (point, sorted(
            name for name in {**want, **got} if want.get(name) != got.get(name)))
    # Everything else can be read, too.
    for top, _, names in os.walk(folder):
        for name in names:
            checksum(os.path.join(top, name))
    for name in os.listdir(folder + "/.snap"):
        checksums(folder + "/.snap/" + name)
    return len(files), len(points)


def one_life(m, folders, rng, turn):
    """Load, kill, mount, check."""
    diaries = ["%s/diary-%d" % (m.top, i) for i in range(WRITERS)]
    pids = []
    for folder, diary in zip(folders, diaries):
        seed = rng.randrange(1 << 40)
        pid = os.fork()
        if not pid:
            write_load(folder, seed, diary)
        pids.append(pid)
    wait = rng.choice([0.05, 0.3, 1.0, 2.5]) * (0.5 + rng.random())
    time.sleep(wait)
    os.kill(m.daemon(), signal.SIGKILL)
    for pid in pids:
        status = os.waitpid(pid, 0)[1]
        # A store in a mapping that nobody serves any more is a SIGBUS.
        assert status in (0, signal.SIGBUS), "a writer failed: %d" % status
    while m.is_busy():
        time.sleep(0.01)
    subprocess.run(["umount", m.dir], check=True)
    # Every tree, name, count and checksum, before anything is done to it.
    subprocess.run(["fsck.memsnapfs", "-nc", m.pool], check=True,
                   stdout=subprocess.DEVNULL)
    m.mount()
    try:
        found = [check(*pair) for pair in zip(folders, diaries)]
    except Exception:
        print("life %d: mounted: %s, daemon running: %s" %
              (turn, os.path.ismount(m.dir), m.is_busy()))
        raise
    print("ok: life %d, %.2f s: %d fsync'ed files, %d restore points" %
          (turn, wait, *map(sum, zip(*found))), flush=True)


def main():
    turns = int(os.environ.get("MSNAP_KILLS", "20"))
    seed = int(os.environ.get("MSNAP_SEED", time.time_ns() % 1000000))
    print("MSNAP_SEED=%d" % seed)
    rng = random.Random(seed)
    with Mount("1G") as m:
        folders = ["%s/%d" % (m.dir, i) for i in range(WRITERS)]
        for folder in folders:
            os.mkdir(folder)
        sync_dir(m.dir)
        for turn in range(1, turns + 1):
            one_life(m, folders, rng, turn)


if __name__ == "__main__":
    sys.exit(main())
