#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Random changes of a tree of files, with restore points, clones, rollbacks and kills.

The same changes are made to a tree on the mount and to one of the host's; what a
restore point holds is kept there as a plain copy, and a rollback copies it back.  After
each step both trees must look the same through the kernel's caches, and at the end,
after a remount, all restore points, too.

MSNAP_SEEDS: how many runs (4); MSNAP_SEED: the first one (1).
"""

import errno
import mmap
import os
import random
import shutil
import stat
import subprocess
import sys

sys.dont_write_bytecode = True
from mountlib import Mount, NO_SAFETY, RECURSIVE, clone, rollback, snap

STEPS = 250
NAMES = ["a", "b", "c", "a long name with spaces", "\u00e4\u00f6\u00fc"]


def contents(path):
    with open(path, "rb") as f:
        return f.read()


def look(top, links=True):
    """A tree as {relative path: what it is}; hard links by their first name.  A file's
    names outside of a restore point's directory count where it was taken (@links)."""
    seen, first = {}, {}

    def add(path, rel):
        st = os.lstat(path)
        what = [stat.S_IFMT(st.st_mode), stat.S_IMODE(st.st_mode)]
        if stat.S_ISLNK(st.st_mode):
            what = [stat.S_IFLNK, os.readlink(path)]
        elif stat.S_ISREG(st.st_mode):
            what += [links and st.st_nlink, first.setdefault(st.st_ino, rel),
                     st.st_mtime_ns // 10**9 if st.st_mtime < 10**9 else 0,
                     contents(path)]
        if not stat.S_ISLNK(st.st_mode):
            what += [{name: os.getxattr(path, name)
                      for name in sorted(os.listxattr(path))
                      if name.startswith("user.")}]
        seen[rel] = what
        if stat.S_ISDIR(st.st_mode):
            for name in sorted(os.listdir(path)):
                add(path + "/" + name, rel + "/" + name)

    add(top, "")
    return seen


def differ(one, two):
    for path in sorted(set(one) | set(two)):
        if one.get(path) != two.get(path):
            return "%s: %.300r\n%.300r" % (path, one.get(path), two.get(path))
    return None


def copy_tree(src, dst):
    """A copy with hard links, times and attributes."""
    links = {}

    def copy(s, d):
        st = os.lstat(s)
        if stat.S_ISDIR(st.st_mode):
            os.mkdir(d)
            for name in os.listdir(s):
                copy(s + "/" + name, d + "/" + name)
        elif st.st_ino in links:
            os.link(links[st.st_ino], d, follow_symlinks=False)
            return
        elif stat.S_ISLNK(st.st_mode):
            os.symlink(os.readlink(s), d)
        else:
            shutil.copyfile(s, d)
        links[st.st_ino] = d
        if not stat.S_ISLNK(st.st_mode):
            shutil.copystat(s, d)

    copy(src, dst)


class Pair:
    """The tree on the mount and its shadow; calls are made on both."""

    def __init__(self, m, seed):
        self.m = m
        self.rand = random.Random(seed)
        self.here = m.dir + "/tree"
        self.there = m.top + "/shadow"
        self.kept = m.top + "/kept"
        self.points = {}    # name: directory below the top that it is of
        self.of_inode = {}  # name: that directory's inode
        self.serial = 0
        self.open = []      # of the mount: (descriptor, mapping)
        for path in self.here, self.there, self.kept:
            os.mkdir(path)

    def both(self, call):
        """@call(top) on both: they must end alike."""
        results = []
        state = self.rand.getstate()
        for top in self.here, self.there:
            self.rand.setstate(state)
            try:
                results.append(call(top))
            except OSError as e:
                # ext4 and others do not agree which it is.
                same = {errno.EEXIST: errno.ENOTEMPTY}
                results.append(same.get(e.errno, e.errno))
        assert results[0] == results[1], results

    # ---- choosing ------------------------------------------------------------

    def all(self, kind=None):
        found = []
        for path, dirs, files in os.walk(self.there):
            rel = path[len(self.there):]
            if kind in (None, "dir"):
                found.append(rel)
            if kind != "dir":
                found += [rel + "/" + name for name in files
                          if kind is None or
                          not os.path.islink(path + "/" + name)]
        return sorted(found)

    def some(self, kind=None):
        found = self.all(kind)
        return self.rand.choice(found) if found else None

    def new_name(self):
        return self.some("dir") + "/" + self.rand.choice(NAMES)

    # ---- changes ---------------------------------------------------------------

    def write(self):
        path, data = self.new_name(), self.rand.randbytes(self.rand.choice(
            (0, 10, 4096, 20000, 300000)))

        def call(top):
            with open(top + path, "wb") as f:
                f.write(data)
        self.both(call)

    def store(self):
        """Through a mapping, or by write(2), somewhere in a file."""
        path = self.some("file")
        if not path:
            return

        def call(top):
            fd = os.open(top + path, os.O_RDWR)
            try:
                size = os.fstat(fd).st_size
                if not size:
                    return
                at = self.rand.randrange(size)
                data = self.rand.randbytes(self.rand.randrange(1, 9000))
                if self.rand.random() < 0.5:
                    os.pwrite(fd, data, at)
                else:
                    with mmap.mmap(fd, size) as mem:
                        mem[at:at + len(data)] = data[:size - at]
            finally:
                os.close(fd)
        self.both(call)

    def keep_open(self):
        """Open and mapped while things happen to it."""
        path = self.some("file")
        if path and len(self.open) < 8 and os.path.getsize(self.there + path):
            fd = os.open(self.here + path, os.O_RDWR)
            mem = mmap.mmap(fd, 0)
            assert mem[:] == os.pread(fd, len(mem), 0)
            self.open.append((fd, mem))

    def close(self):
        if self.open:
            fd, mem = self.open.pop(self.rand.randrange(len(self.open)))
            mem.close()
            os.close(fd)

    def truncate(self):
        path, size = self.some("file"), self.rand.randrange(40000)
        if path:
            self.both(lambda top: os.truncate(top + path, size))

    def mkdir(self):
        path = self.new_name()
        self.both(lambda top: os.mkdir(top + path))

    def remove(self):
        path = self.some()
        if path:
            self.both(lambda top: (os.rmdir if os.path.isdir(top + path) and
                                   not os.path.islink(top + path) else
                                   os.unlink)(top + path))

    def rename(self):
        old, new = self.some(), self.new_name()
        if old:
            self.both(lambda top: os.rename(top + old, top + new))

    def link(self):
        old, new = self.some("file"), self.new_name()
        if old:
            self.both(lambda top: os.link(top + old, top + new))

    def symlink(self):
        path = self.new_name()
        self.both(lambda top: os.symlink("to/" + self.rand.choice(NAMES),
                                         top + path))

    def attributes(self):
        path, mode = self.some("file"), self.rand.choice((0o600, 0o644, 0o755))
        if not path:
            return

        def call(top):
            os.chmod(top + path, mode)
            os.setxattr(top + path, "user." + self.rand.choice("xyz"),
                        self.rand.randbytes(self.rand.choice((0, 30, 900))))
            os.utime(top + path, (10**8, 10**8 + mode))
        self.both(call)

    # ---- restore points ----------------------------------------------------------

    def take(self):
        self.serial += 1
        name, of = "point-%d" % self.serial, self.some("dir")
        if self.rand.random() < 0.3:
            of = ""
        snap(self.here + of, name)
        self.points[name] = of
        self.of_inode[name] = os.stat(self.here + of).st_ino
        copy_tree(self.there + of, self.kept + "/" + name)
        self.compare_point(name)

    def point(self, name):
        return self.here + self.points[name] + "/.snap/" + name

    def compare_point(self, name):
        bad = differ(look(self.point(name), False),
                     look(self.kept + "/" + name, False))
        assert bad is None, (name, bad)

    def forget(self):
        names = self.usable()
        if len(names) > 4:
            name = self.rand.choice(names)
            os.rmdir(self.point(name))
            assert not os.path.exists(self.point(name))
            del self.points[name]

    def usable(self):
        """Restore points whose directory is still where it was."""
        found = []
        for name in sorted(self.points):
            of = self.here + self.points[name]
            if os.path.isdir(of) and os.stat(of).st_ino == self.of_inode[name]:
                assert os.path.isdir(self.point(name)), name
                found.append(name)
        return found

    def has_outer_links(self, of):
        """Files below it with names elsewhere, too: there the rollback shows."""
        inner = {}
        for tree in (self.there + of,):
            for path, _, files in os.walk(tree):
                for name in files:
                    st = os.lstat(path + "/" + name)
                    inner.setdefault(st.st_ino, [st.st_nlink, 0])[1] += 1
        return any(links != seen for links, seen in inner.values())

    def back(self):
        names = self.usable()
        if not names:
            return
        name = self.rand.choice(names)
        of = self.points[name]
        if of and (self.has_outer_links(of) or self.moved_out(name, of)):
            return
        rollback(self.here + of, name, flags=NO_SAFETY)
        if of:
            shutil.rmtree(self.there + of)
            copy_tree(self.kept + "/" + name, self.there + of)
        else:
            shutil.rmtree(self.there)
            copy_tree(self.kept + "/" + name, self.there)
        for fd, mem in self.open:
            # A mapping shows what the file contains, as far as there is a file.
            size = min(os.fstat(fd).st_size, len(mem))
            assert mem[:size] == os.pread(fd, size, 0)

    def moved_out(self, name, of):
        """Did anything of the restore point move out of its directory?  A rollback of the
        directory leaves that alone, and makes another of it."""
        inos = set()
        for path, dirs, files in os.walk(self.point(name)):
            inos |= {os.lstat(path + "/" + n).st_ino & (1 << 40) - 1
                     for n in files + dirs}
        for path, dirs, files in os.walk(self.here):
            if (path + "/").startswith(self.here + of + "/"):
                continue
            for n in files + dirs:
                if os.lstat(path + "/" + n).st_ino in inos:
                    return True
        return False

    def clone(self):
        src, dst = self.some(), self.new_name()
        if not src or os.path.lexists(self.there + dst) or \
                (dst + "/").startswith(src + "/") or \
                os.path.islink(self.there + src):
            return
        is_dir = os.path.isdir(self.there + src)
        clone(self.here + src, self.here + dst, RECURSIVE if is_dir else 0)
        copy_tree(self.there + src, self.there + dst)

    def crash(self):
        """The daemon is killed after all that was done is durable."""
        while self.open:
            self.close()
        for rel in self.all("file") + [""]:
            fd = os.open(self.here + rel, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
        subprocess.run(["pkill", "-9", "-f", "mount.memsnapfs " + self.m.pool],
                       check=True)
        self.m.unmount()
        self.m.mount()

    # ---- running -------------------------------------------------------------------

    CHOICES = (("write", 6), ("store", 6), ("keep_open", 2), ("close", 2),
               ("truncate", 2), ("mkdir", 3), ("remove", 2), ("rename", 4),
               ("link", 2), ("symlink", 1), ("attributes", 2), ("take", 2),
               ("forget", 1), ("back", 2), ("clone", 2), ("crash", 0.3))

    def run(self, seed):
        names, weights = zip(*self.CHOICES)
        for step in range(STEPS):
            op = self.rand.choices(names, weights)[0]
            try:
                getattr(self, op)()
                bad = differ(look(self.here), look(self.there))
                assert bad is None, bad
            except Exception:
                print("seed %d, step %d: %s" % (seed, step, op))
                raise
        while self.open:
            self.close()
        self.m.unmount()
        self.m.mount()
        bad = differ(look(self.here), look(self.there))
        assert bad is None, bad
        names = self.usable()
        for name in names:
            self.compare_point(name)
        print("ok: seed %d: %d files and directories, %d restore points" %
              (seed, len(self.all()), len(names)), flush=True)


def main():
    first = int(os.environ.get("MSNAP_SEED", "1"))
    for seed in range(first, first + int(os.environ.get("MSNAP_SEEDS", "4"))):
        with Mount("256M") as m:
            Pair(m, seed).run(seed)


if __name__ == "__main__":
    main()
