#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What is kept when a call has returned and then the caller or the daemon is killed:
the promises of docs/GUARANTEES.md, one by one.

Each is made in a directory of its own; the daemon is killed right after the call, and
the pool mounted again.
"""

import json
import mmap
import os
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
from mountlib import Mount, clone, read, rollback, snap

OLD = b"old " * 2048
NEW = b"new " * 3000


def write(path, data, sync=False):
    with open(path, "wb") as file:
        file.write(data)
        if sync:
            file.flush()
            os.fsync(file.fileno())


def sync_dir(path):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(fd)
    os.close(fd)


def map_of(path, size):
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, size)
    mem = mmap.mmap(fd, size)
    os.close(fd)
    return mem


def daemon_of(m):
    out = subprocess.run(["msnapfs", "info", "--json", m.dir], check=True,
                         stdout=subprocess.PIPE)
    info = json.loads(out.stdout)
    return info["pid"], info["mode"]


def kill_daemon(m):
    os.kill(daemon_of(m)[0], signal.SIGKILL)
    m.unmount()
    m.mount()


# Each: prepare, the call, and a check of what must be there afterwards.  A generator:
# the daemon is killed at the yield.

def fsync(d):
    write(d + "/file", NEW, sync=True)
    yield
    assert read(d + "/file") == NEW


def fdatasync(d):
    fd = os.open(d + "/file", os.O_RDWR | os.O_CREAT)
    os.write(fd, NEW)
    os.fdatasync(fd)
    os.close(fd)
    yield
    assert read(d + "/file") == NEW


def o_sync(d):
    fd = os.open(d + "/file", os.O_RDWR | os.O_CREAT | os.O_SYNC)
    os.write(fd, NEW)
    os.close(fd)
    yield
    assert read(d + "/file") == NEW


def fsync_of_another(d):
    write(d + "/file", NEW)
    mem = map_of(d + "/mapped", 1 << 20)
    mem[100:103] = b"one"
    mem.flush()
    mem.close()
    write(d + "/other", OLD, sync=True)
    yield
    assert read(d + "/file") == NEW
    assert read(d + "/mapped")[100:103] == b"one"


def msync(d):
    mem = map_of(d + "/file", 1 << 20)
    mem[500_000:500_003] = b"one"
    mem.flush()
    mem[500_000:500_003] = b"two"
    mem.flush(499_712, 4096)
    mem.close()
    yield
    assert read(d + "/file")[500_000:500_003] == b"two"


def renamed(d):
    write(d + "/a", NEW, sync=True)
    write(d + "/b", OLD, sync=True)
    os.rename(d + "/a", d + "/b")
    sync_dir(d)
    yield
    assert os.listdir(d) == ["b"] and read(d + "/b") == NEW


def renamed_unsynced(d):
    write(d + "/a", NEW, sync=True)
    write(d + "/b", OLD, sync=True)
    os.rename(d + "/a", d + "/b")
    yield
    names = sorted(os.listdir(d))
    assert names in (["b"], ["a", "b"]), names
    assert read(d + "/b") == (NEW if names == ["b"] else OLD)


def in_order(d):
    write(d + "/first", NEW)
    os.mkdir(d + "/second")
    write(d + "/second/third", NEW)
    os.rename(d + "/second", d + "/fourth")
    yield
    have = os.listdir(d)
    if "second" in have or "fourth" in have:
        assert "first" in have
    if "fourth" in have:
        assert "second" not in have and os.listdir(d + "/fourth") == ["third"]


def snapshot(d):
    mem = map_of(d + "/mapped", 1 << 20)
    mem[100:103] = b"one"
    write(d + "/written", NEW)
    snap(d, "s")
    mem[100:103] = b"two"
    write(d + "/written", OLD)
    mem.close()
    yield
    assert os.listdir(d + "/.snap") == ["s"]
    assert read(d + "/.snap/s/mapped")[100:103] == b"one"
    assert read(d + "/.snap/s/written") == NEW


def snapshot_of_file(d):
    write(d + "/file", NEW)
    snap(d, "s", file="file")
    write(d + "/file", OLD)
    yield
    assert read(d + "/.snap/s/file") == NEW


def snapshot_by_mkdir(d):
    write(d + "/file", NEW)
    os.mkdir(d + "/.snap/s")
    os.rename(d + "/.snap/s", d + "/.snap/t")
    yield
    assert os.listdir(d + "/.snap") == ["t"]
    assert read(d + "/.snap/t/file") == NEW


def snapshot_deleted(d):
    write(d + "/file", NEW)
    snap(d, "s")
    snap(d, "t")
    os.rmdir(d + "/.snap/s")
    yield
    assert os.listdir(d + "/.snap") == ["t"]
    assert read(d + "/.snap/t/file") == NEW


def cloned(d):
    mem = map_of(d + "/file", 1 << 20)
    mem[100:103] = b"one"
    clone(d + "/file", d + "/clone")
    mem[100:103] = b"two"
    mem.close()
    yield
    assert read(d + "/clone")[100:103] == b"one"


def copied(d):
    write(d + "/file", NEW)
    src = os.open(d + "/file", os.O_RDONLY)
    dst = os.open(d + "/copy", os.O_RDWR | os.O_CREAT)
    assert os.copy_file_range(src, dst, len(NEW)) == len(NEW)
    os.fsync(dst)
    os.close(src)
    os.close(dst)
    yield
    assert read(d + "/copy") == NEW


def deleted(d):
    write(d + "/file", NEW, sync=True)
    os.remove(d + "/file")
    sync_dir(d)
    yield
    assert not os.listdir(d)


def deleted_but_open(d):
    write(d + "/file", NEW, sync=True)
    fd = os.open(d + "/file", os.O_RDONLY)
    os.remove(d + "/file")
    sync_dir(d)
    assert os.read(fd, 100) == NEW[:100]
    os.close(fd)
    yield
    assert not os.listdir(d)


def rolled_back(d):
    write(d + "/file", OLD)
    write(d + "/gone", OLD)
    snap(d, "s")
    mem = map_of(d + "/file", 1 << 20)
    mem[100:103] = b"two"
    os.remove(d + "/gone")
    write(d + "/made", NEW)
    safety = rollback(d, "s")
    mem.close()
    yield
    assert sorted(os.listdir(d)) == ["file", "gone"]
    assert read(d + "/file") == read(d + "/gone") == OLD
    assert read(d + "/.snap/%s/file" % safety)[100:103] == b"two"
    assert read(d + "/.snap/%s/made" % safety) == NEW


def file_rolled_back(d):
    write(d + "/file", OLD)
    snap(d, "s", file="file")
    write(d + "/file", NEW)
    rollback(d, "s", file="file")
    yield
    assert read(d + "/file") == OLD


def attributes(d):
    write(d + "/file", NEW)
    os.chmod(d + "/file", 0o640)
    os.setxattr(d + "/file", "user.kept", b"value")
    os.utime(d + "/file", ns=(10**18, 10**18 + 1))
    sync_dir(d)
    yield
    st = os.stat(d + "/file")
    assert st.st_mode & 0o7777 == 0o640 and st.st_mtime_ns == 10**18 + 1
    assert os.getxattr(d + "/file", "user.kept") == b"value"


KILLED = [fsync, fsync_of_another, fdatasync, o_sync, msync, renamed, renamed_unsynced, in_order,
          snapshot, snapshot_of_file, snapshot_by_mkdir, snapshot_deleted, cloned,
          copied, deleted, deleted_but_open, rolled_back, file_rolled_back, attributes]


def daemon_killed(m, case):
    d = m.dir + "/" + case.__name__
    os.mkdir(d)
    sync_dir(m.dir)
    run = case(d)
    next(run)
    kill_daemon(m)
    try:
        next(run)
    except StopIteration:
        pass
    print("ok: daemon killed after: " + case.__name__)


def caller_killed(m, case):
    """The process that made the calls is killed right after; a copy of it looks."""
    d = m.dir + "/" + case.__name__ + "-caller"
    os.mkdir(d)
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        run = case(d)
        next(run)
        caller = os.getpid()
        if os.fork():
            os.kill(caller, signal.SIGKILL)
        while os.getppid() == caller:
            time.sleep(0.001)
        next(run, None)
        os.write(tell, b"kept")
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(tell)
    assert os.read(told, 10) == b"kept", case.__name__
    os.close(told)


def process_killed(m):
    """What a process has stored is there when it is killed, synced or not."""
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        write(m.dir + "/written", NEW)
        mem = map_of(m.dir + "/mapped", 1 << 20)
        mem[700_000:700_005] = b"store"
        os.write(tell, b"x")
        signal.pause()
    os.read(told, 1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(told)
    os.close(tell)
    for turn in "killed", "and unmounted":
        assert read(m.dir + "/written") == NEW
        assert read(m.dir + "/mapped")[700_000:700_005] == b"store"
        print("ok: process " + turn)
        m.unmount()
        m.mount()


def passes():
    """Cached mode, and direct mode where the host has it."""
    yield ["-o", "mode=cached"]
    with Mount(size="16M") as m:
        mode = daemon_of(m)[1]
    if mode == "direct":
        yield ["-o", "mode=direct"]


def main():
    for options in passes():
        print("with " + " ".join(options))
        with Mount(size="128M", options=options) as m:
            process_killed(m)
            for case in KILLED:
                caller_killed(m, case)
            print("ok: the caller killed after each of these")
            for case in KILLED:
                daemon_killed(m, case)


if __name__ == "__main__":
    main()
