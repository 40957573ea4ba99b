#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Analyse a single-cell dataset twice: saved after each stage, and mapped on memsnapfs.

    pipeline.py --mount DIR --work DIR [--cells N] [--genes N]

Every stage takes the dataset as the one before left it and keeps its result, so that
one can go back to it.  Two stages are tried with other parameters in branches, which
run side by side; one fails half way and is undone.  At the end both ways must have the
same bytes.  Prints a table of what was measured; exit status 1 when they differ.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time

# One thread for each process, so that sums are the same in every run.
for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import multiprocessing

import counts
import keepers
import stages
import table


class Run:
    """One of the two ways through all stages; rows gathers what was measured."""

    def __init__(self, keeper, shape, source):
        self.keeper = keeper
        self.shape = shape
        self.source = source
        self.rows = {}
        self.sums = {}
        self.results = {}
        self.used = keeper.used()

    def row(self, title, computing, kept):
        used = self.keeper.used()
        self.rows[title] = table.Row(computing, kept, used - self.used)
        self.used = used

    def bring_in(self, title, stage):
        self.keeper.bring_in(self.source, self.shape)
        if isinstance(self.keeper, keepers.Mapped):
            self.keeper.keep(stage)
        self.row(title, 0.0, self.keeper.clock.take())

    def stage(self, title, stage, function, needs, changes):
        data = self.keeper.use(*needs)
        computing = keepers.Clock()
        with computing:
            function(data)
        del data
        self.keeper.keep(stage, *changes)
        self.row(title, computing.seconds, self.keeper.clock.take())

    def failing(self, title, function, needs):
        data = self.keeper.use(*needs)
        computing = keepers.Clock()
        try:
            with computing:
                function(data)
        except stages.Failure:
            pass
        else:
            raise RuntimeError("the stage was meant to fail")
        self.row(title, computing.seconds, self.keeper.clock.take())

    def undo(self, title, stage):
        self.keeper.back(stage)
        self.row(title, 0.0, self.keeper.clock.take())

    def branches(self, title, stage, steps, needs, changes):
        """steps: name of a branch -> its functions, one after the other."""
        branched = self.keeper.branch(list(steps))
        made = self.keeper.clock.take()
        told, took = side_by_side([(one, steps[name], needs, changes, name)
                                   for one, name in zip(branched, steps)])
        kept = max(one["kept"] for one in told)
        if isinstance(self.keeper, keepers.Mapped):
            self.keeper.keep(stage)
            made += self.keeper.clock.take()
        self.row(title, took - kept, made + kept)
        self.keeper.disk += max(one["disk"] for one in told)
        for name, one in zip(steps, told):
            self.sums[name] = one["sums"]
            self.results[name] = one["result"]


def run_branch(pipe, keeper, functions, needs, changes, name):
    """In a process of its own."""
    data = keeper.use(*needs)
    for function in functions:
        result = function(data)
    if isinstance(keeper, keepers.Saved):
        keeper.keep(name, *changes)
    else:
        data = None             # not mapped any more: this takes time, too
    pipe.send({"kept": keeper.clock.seconds, "disk": keeper.disk,
               "result": result})
    # From here on nobody takes the time.
    pipe.send(keepers.checksums(data or keeper.use(*needs)))


def side_by_side(jobs):
    """Each in its own process; what they tell, in order, and the seconds it took."""
    fork = multiprocessing.get_context("fork")
    began = time.monotonic()
    started = []
    for job in jobs:
        ours, theirs = fork.Pipe(False)
        process = fork.Process(target=run_branch, args=(theirs, *job))
        process.start()
        theirs.close()
        started.append((process, ours))
    try:
        told = [ours.recv() for _, ours in started]
        took = time.monotonic() - began
        for one, (process, ours) in zip(told, started):
            one["sums"] = ours.recv()
            process.join()
    except EOFError:
        raise RuntimeError("a branch failed") from None
    return told, took


# ---- the analysis ---------------------------------------------------------------

ALL = ("matrix", "cells", "genes", "pca")


def depth_branch(target):
    return [lambda data: stages.normalise(data, target), stages.logarithm,
            stages.choose, chosen]


def limit_branch(limit):
    return [lambda data: stages.scale(data, limit), stages.components,
            stages.cluster, clusters]


def chosen(data):
    return set(data["genes"]["chosen"].nonzero()[0].tolist())


def clusters(data):
    return data["cells"]["cluster"].copy()


def analyse(run):
    run.bring_in("bring in counts", "raw")
    run.stage("quality control", "quality", stages.quality,
              ("matrix", "cells", "genes"), ("cells", "genes"))
    run.branches("2 branches: depths", "depths",
                 {"depth-1000": depth_branch(1e3),
                  "depth-100000": depth_branch(1e5)},
                 ("matrix", "cells", "genes"), ("matrix", "genes"))
    run.stage("normalise", "normalised", stages.normalise,
              ("matrix", "cells"), ("matrix",))
    run.failing("logarithm, fails",
                lambda data: stages.logarithm(data, fails=True), ("matrix",))
    run.undo("  undo", "normalised")
    run.stage("logarithm, again", "logarithm", stages.logarithm,
              ("matrix",), ("matrix",))
    run.stage("choose genes", "genes", stages.choose,
              ("matrix", "cells", "genes"), ("genes",))
    run.branches("2 branches: limits", "limits",
                 {"limit-2": limit_branch(2.0), "limit-50": limit_branch(50.0)},
                 ALL, ("matrix", "cells", "pca"))
    run.stage("scale", "scaled", stages.scale,
              ("matrix", "cells", "genes"), ("matrix",))
    run.stage("principal components", "pca", stages.components,
              ("matrix", "genes", "pca"), ("pca",))
    run.stage("cluster", "clusters", stages.cluster,
              ("cells", "pca"), ("cells",))
    run.sums["cells"] = run.keeper.checksums()
    data = run.keeper.use("cells", "genes")
    run.results["cells"] = clusters(data), chosen(data)


def findings(results, truth):
    """What the branches were for, in a sentence each."""
    found, genes = results["cells"]
    keep = found >= 0

    def right(name):
        label = found if name == "cells" else results[name]
        return "%.2f" % stages.agreement(label[keep], truth[keep])
    return [
        "Of the %d genes chosen, depth 1,000 chooses %d too, depth 100,000 %d."
        % (len(genes), len(genes & results["depth-1000"]),
           len(genes & results["depth-100000"])),
        "Clusters and true cell types agree: %s (limit 2: %s, limit 50: %s)."
        % (right("cells"), right("limit-2"), right("limit-50"))]


def different(old, new):
    """Arrays that the two ways do not have in common."""
    return ["%s of %s" % (array, name) for name in old for array in old[name]
            if old[name][array] != new[name].get(array)]


def timed(keeper, shape, source):
    """All stages, starting with the counts on the disk only."""
    keepers.write_out(source)
    run = Run(keeper, shape, source)
    analyse(run)
    return run


def say(text):
    print(text, flush=True)


def compare(mount, work, shape):
    """Both ways, and the table."""
    source = os.path.join(work, "counts.npy")

    say("%d cells x %d genes, %.2f GiB of negative binomial counts (seed %d)"
        % (*shape, shape[0] * shape[1] * 4 / 2 ** 30, counts.SEED))
    began = time.monotonic()
    counts.make(source, shape, min(os.cpu_count() or 1, 8))
    say("made in %.0f s" % (time.monotonic() - began))

    saved = os.path.join(work, "saved")
    say("the old way: np.save after each stage, np.load before the next ...")
    old = timed(keepers.Saved(saved), shape, source)
    shutil.rmtree(saved)
    say("with memsnapfs: mapped, restore points and clones ...")
    new = timed(keepers.Mapped(mount), shape, source)
    wrong = different(old.sums, new.sums)
    if wrong:
        sys.exit("pipeline.py: the two ways differ in: " + ", ".join(wrong))
    say("both ways end with the same bytes (SHA-256 of %d arrays)\n"
        % sum(len(sums) for sums in new.sums.values()))
    table.show(old, new, old.keeper.disk)
    for line in findings(new.results, counts.true_types(shape)):
        say(line)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mount", required=True, help="a mounted memsnapfs")
    parser.add_argument("--work", required=True,
                        help="an empty directory on a disk for the old way")
    parser.add_argument("--cells", type=int, default=40000)
    parser.add_argument("--genes", type=int, default=6800)
    args = parser.parse_args()
    # An interruption ends this and all its processes, without a word from each.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        compare(args.mount, args.work, (args.cells, args.genes))
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        sys.exit("pipeline.py: %s" % error)


if __name__ == "__main__":
    main()
