# SPDX-License-Identifier: GPL-2.0-or-later
"""Two ways to keep a dataset between the stages of an analysis.

Saved    arrays in memory; np.save after a stage, np.load before the next.  A careful
         hand: only what a stage changed is saved, only what the next one needs is
         loaded.  Saving ends with fsync; then the file leaves the page cache, since
         the next stage of a long analysis starts another day.
Mapped   arrays are files of a memsnapfs, mapped and changed where they are; a restore
         point after a stage, clones for branches, a rollback for what went wrong.

Both have: bring_in, use, keep, branch, back; and count the seconds they took for it.
"""

import hashlib
import json
import os
import subprocess
import time

import numpy as np

import stages


class Clock:
    """with clock: ... adds the seconds to clock.seconds."""

    def __init__(self):
        self.seconds = 0.0

    def __enter__(self):
        self.began = time.monotonic()

    def __exit__(self, *exc):
        self.seconds += time.monotonic() - self.began

    def take(self):
        """The seconds since the last take()."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


def empty(shape):
    """The small arrays of a new dataset."""
    return {"cells": np.zeros(shape[0], stages.CELL),
            "genes": np.zeros(shape[1], stages.GENE),
            "pca": np.zeros((shape[0], stages.COMPONENTS), np.float32)}


def checksum(array):
    digest = hashlib.sha256()
    for rows in stages.chunks(array):
        digest.update(np.ascontiguousarray(array[rows]).view(np.uint8).data)
    return digest.hexdigest()


def checksums(arrays):
    return {name: checksum(array) for name, array in arrays.items()}


# ---- the old way ----------------------------------------------------------------

def write_out(path):
    """To the disk, and out of the page cache: the next one to read it pays."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


class Saved:
    """Where each array's newest file is, by its name."""

    def __init__(self, folder, files=None):
        self.folder = folder
        self.files = dict(files or {})
        self.data = {}
        self.clock = Clock()
        self.disk = 0.0         # seconds lost because loads are from the disk
        os.makedirs(folder, exist_ok=True)

    def bring_in(self, source, shape):
        self.files["matrix"] = source
        self.data = empty(shape)
        for name in self.data:
            self.save(name, "raw")

    def load(self, names):
        self.data = {}
        for name in names:
            self.data[name] = np.load(self.files[name])

    def use(self, *names):
        disk, cache = Clock(), Clock()
        with disk:
            self.load(names)
        # Once more, now from the page cache: for comparison, not in the sum.
        with cache:
            self.load(names)
        self.clock.seconds += disk.seconds
        self.disk += disk.seconds - cache.seconds
        return self.data

    def save(self, name, stage):
        path = "%s/%s-%s.npy" % (self.folder, stage, name)
        np.save(path, self.data[name])
        write_out(path)
        self.files[name] = path

    def keep(self, stage, *names):
        with self.clock:
            for name in names:
                self.save(name, stage)
        self.data = {}

    def branch(self, names):
        """Nothing to do yet: each branch loads what it starts from."""
        return [Saved("%s/%s" % (self.folder, name), self.files)
                for name in names]

    def back(self, stage):
        """Forget what is in memory; the rerun loads it again."""
        self.data = {}

    def used(self):
        """Bytes on the disk for all stages until now."""
        return sum(os.stat(os.path.join(top, name)).st_blocks * 512
                   for top, _, names in os.walk(self.folder) for name in names)

    def checksums(self):
        return checksums({name: np.load(path, mmap_mode="r")
                          for name, path in self.files.items()})


# ---- with memsnapfs -------------------------------------------------------------

def msnapfs(*words):
    """Run a command of memsnapfs; what it prints."""
    return subprocess.run(["msnapfs", *words], check=True, text=True,
                          stdout=subprocess.PIPE).stdout


class Mapped:
    """A directory of a mounted memsnapfs with one file for each array."""

    def __init__(self, mount, folder="cells"):
        self.mount = mount
        self.folder = os.path.join(mount, folder)
        self.files = None
        self.clock = Clock()
        self.disk = 0.0

    def path(self, name):
        return "%s/%s.npy" % (self.folder, name)

    def bring_in(self, source, shape):
        os.makedirs(self.folder)
        with self.clock:
            matrix = np.lib.format.open_memmap(self.path("matrix"), "w+",
                                               np.float32, shape)
            matrix[:] = np.load(source, mmap_mode="r")
            del matrix
            for name, array in empty(shape).items():
                np.save(self.path(name), array)

    def use(self, *names):
        return {name: np.load(self.path(name), mmap_mode="r+")
                for name in names}

    def keep(self, stage, *_):
        with self.clock:
            msnapfs("snap", "-n", stage, self.mount)

    def branch(self, names):
        with self.clock:
            for name in names:
                msnapfs("clone", "-r", self.folder,
                        os.path.join(self.mount, name))
        return [Mapped(self.mount, name) for name in names]

    def back(self, stage):
        with self.clock:
            msnapfs("rollback", "-n", "%s@%s" % (self.path("matrix"), stage))

    def used(self):
        return json.loads(msnapfs("info", "--json", self.mount))["used"]

    def checksums(self):
        return checksums({name: np.load(self.path(name), mmap_mode="r")
                          for name in ("matrix", "cells", "genes", "pca")})
