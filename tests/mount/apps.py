#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that map their files: numpy, LMDB, SQLite, HDF5.

Each works in the mount, has a restore point taken in the middle, goes on, and finds in
the restore point what it had then: at once, and after the pool was mounted anew.
"""

import hashlib
import importlib
import os
import random
import shutil
import sqlite3
import sys

sys.dont_write_bytecode = True
from mountlib import Mount, clone, snap


def digest(items):
    """Of any sequence whose items have a faithful repr()."""
    total = hashlib.sha256()
    for item in items:
        total.update(repr(item).encode() + b"\n")
    return total.hexdigest()


def file_digest(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def refuses(errors, function, *args):
    try:
        function(*args)
    except errors:
        return
    assert False, "%s was not refused" % (args,)


# ---- numpy.memmap --------------------------------------------------------------

class Numpy:
    module = "numpy"
    shape = (512, 4096)

    def open(self, path, mode):
        numpy = importlib.import_module("numpy")
        return numpy.memmap(path, "f4", mode, shape=self.shape)

    def work(self, top):
        """All four modes; what the file had when the restore point was taken."""
        path = top + "/array"
        new = self.open(path, "w+")
        new[:] = 1.5
        again = self.open(path, "r+")
        again[7] = range(self.shape[1])
        read = self.open(path, "r")
        private = self.open(path, "c")
        private[100:] = -1
        private[:, 0] = -2
        refuses(ValueError, read.__setitem__, 0, 1)
        then = hashlib.sha256(read).hexdigest()
        snap(top, "middle")
        assert (private[100:, 1:] == -1).all() and (private[:, 0] == -2).all()
        new += 1
        again[3, 1::2] = 0
        assert read[0, 0] == 2.5 and read[3, 1] == 0, "modes see each other"
        assert hashlib.sha256(read).hexdigest() != then
        new.flush()
        self.refuse_writing(top + "/.snap/middle/array")
        return then

    def refuse_writing(self, path):
        refuses(OSError, self.open, path, "r+")
        copy = self.open(path, "c")
        copy[:] = 0

    def look(self, folder):
        both = {hashlib.sha256(self.open(folder + "/array", mode)).hexdigest()
                for mode in ("r", "c")}
        assert len(both) == 1
        return both.pop()


# ---- LMDB ----------------------------------------------------------------------

class Lmdb:
    module = "lmdb"

    def open(self, path, **how):
        lmdb = importlib.import_module("lmdb")
        return lmdb.open(path, map_size=64 << 20, **how)

    def put(self, env, numbers):
        with env.begin(write=True) as txn:
            for n in numbers:
                txn.put(b"%08d" % n, random.Random(n).randbytes(n % 3000))

    def content(self, env):
        with env.begin() as txn:
            return digest(txn.cursor())

    def work(self, top):
        """Through a writable mapping that is never synced."""
        env = self.open(top + "/db", writemap=True, sync=False)
        self.put(env, range(2000))
        self.put(env, range(0, 4000, 3))
        then = self.content(env)
        # What is not committed yet belongs to nobody.
        with env.begin(write=True) as txn:
            txn.put(b"half", b"done")
            snap(top, "middle")
        self.put(env, range(5000, 8000))
        with env.begin(write=True) as txn:
            for n in range(0, 2000, 2):
                txn.delete(b"%08d" % n)
        assert self.content(env) != then
        env.close()
        return then

    def look(self, folder):
        env = self.open(folder + "/db", readonly=True, lock=False)
        try:
            return self.content(env)
        finally:
            env.close()


# ---- SQLite --------------------------------------------------------------------

class Sqlite:
    module = "sqlite3"
    journal = "delete"

    def open(self, path, how="", pragmas=True):
        db = sqlite3.connect("file:%s%s" % (path, how), uri=True,
                             isolation_level=None)
        size, = db.execute("pragma mmap_size = %d" % (1 << 28)).fetchone()
        assert size == 1 << 28, "SQLite does not map its file"
        if pragmas:
            mode, = db.execute("pragma journal_mode = " + self.journal).fetchone()
            assert mode == self.journal, mode
            db.execute("pragma synchronous = off")
        return db

    def insert(self, db, numbers):
        db.execute("begin")
        db.executemany("insert or replace into t values (?, ?)",
                       [(n, random.Random(n).randbytes(n % 2000))
                        for n in numbers])
        db.execute("commit")

    def content(self, db):
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
        return digest(db.execute("select n, v from t order by n"))

    def work(self, top):
        db = self.open(top + "/db.sqlite")
        db.execute("create table t (n integer primary key, v blob)")
        self.insert(db, range(3000))
        self.insert(db, range(0, 6000, 4))
        then = self.content(db)
        snap(top, "middle")
        self.insert(db, range(6000, 8000))
        db.execute("delete from t where n % 2")
        db.execute("vacuum")
        assert self.content(db) != then
        db.close()
        return then

    def look(self, folder):
        db = self.open(folder + "/db.sqlite", "?mode=ro&immutable=1", False)
        try:
            return self.content(db)
        finally:
            db.close()


class SqliteWal(Sqlite):
    """The log has a part of the contents: they are looked at in a clone, where SQLite
    may replay it."""
    journal = "wal"

    def look(self, folder):
        branch = folder.split("/.snap/")[0] + "/branch"
        os.mkdir(branch)
        names = [n for n in os.listdir(folder) if not n.endswith("-shm")]
        assert "db.sqlite-wal" in names, names
        for name in names:
            clone(folder + "/" + name, branch + "/" + name)
        db = self.open(branch + "/db.sqlite")
        try:
            return self.content(db)
        finally:
            db.close()
            shutil.rmtree(branch)


# ---- HDF5 ----------------------------------------------------------------------

class Hdf5:
    module = "h5py"

    def content(self, file):
        names = []
        file.visit(names.append)
        parts = []
        for name in sorted(names):
            parts.append((name, sorted(file[name].attrs.items())))
            if hasattr(file[name], "shape"):
                parts.append(hashlib.sha256(file[name][()]).hexdigest())
        return digest(parts)

    def work(self, top):
        h5py = importlib.import_module("h5py")
        numpy = importlib.import_module("numpy")
        rng = numpy.random.default_rng(5)
        with h5py.File(top + "/data.h5", "w") as file:
            x = file.create_dataset("group/x", (400, 500), "f8",
                                    chunks=(40, 50), compression="gzip")
            x[:] = rng.random(x.shape)
            file.create_dataset("flat", data=numpy.arange(100000))
            file["flat"].attrs["unit"] = "m"
            file.flush()
            then = self.content(file)
            snap(top, "middle")
            x[100:300] = 0
            del file["flat"]
            file.create_dataset("more", data=rng.random(100000))
            file.flush()
            assert self.content(file) != then
        return then

    def look(self, folder):
        h5py = importlib.import_module("h5py")
        with h5py.File(folder + "/data.h5", "r") as file:
            return self.content(file)


# ---- all of them ---------------------------------------------------------------

def files(folder):
    return {name: file_digest(os.path.join(top, name))
            for top, _, names in os.walk(folder) for name in names}


def main():
    missing = []
    done = []
    with Mount("1G") as m:
        for app in (Numpy(), Lmdb(), Sqlite(), SqliteWal(), Hdf5()):
            name = type(app).__name__
            try:
                importlib.import_module(app.module)
            except ImportError:
                missing.append(app.module)
                continue
            top = "%s/%s" % (m.dir, name)
            os.mkdir(top)
            then = app.work(top)
            frozen = files(top + "/.snap/middle")
            assert app.look(top + "/.snap/middle") == then, name
            assert files(top + "/.snap/middle") == frozen, name
            done.append((app, name, then, frozen))
            print("ok:", name)
        m.unmount()
        m.mount()
        for app, name, then, frozen in done:
            point = "%s/%s/.snap/middle" % (m.dir, name)
            assert files(point) == frozen, name
            assert app.look(point) == then, name
        print("ok: all the same after a remount")
    if missing:
        print("skipped: there is no module", ", ".join(missing))
        return 77
    return 0


if __name__ == "__main__":
    sys.exit(main())
