# SPDX-License-Identifier: GPL-2.0-or-later
"""Make a matrix of gene counts as a single-cell experiment gives them.

Cells of a few types, each with its own marker genes; a depth of its own for each
cell; counts from a negative binomial distribution (a Poisson whose mean is gamma
distributed).  The same seed gives the same matrix, whatever the number of processes.
"""

import multiprocessing

import numpy as np

SEED = 1
TYPES = 8
BLOCK = 1000            # cells made at a time
DISPERSION = 2.0        # the gamma's shape
MARKERS = 60            # genes that a type has more of
POOR = 0.04             # of the cells have hardly any counts


def genes_of_types(nr_genes, rng):
    """The mean count of each gene in each type, for a cell of depth 1."""
    base = rng.lognormal(-2.5, 1.3, nr_genes)
    means = np.tile(base, (TYPES, 1))
    for one in means:
        one[rng.choice(nr_genes, MARKERS, replace=False)] *= rng.uniform(3, 8)
    return means.astype(np.float32)


def cells(nr_cells, rng):
    """The type and the depth of each cell."""
    depth = rng.lognormal(0, 0.35, nr_cells)
    depth[rng.random(nr_cells) < POOR] *= 0.05
    return rng.integers(0, TYPES, nr_cells), depth.astype(np.float32)


def plan(shape):
    rng = np.random.default_rng(SEED)
    return (genes_of_types(shape[1], rng), *cells(shape[0], rng))


def fill(path, shape, first, step):
    """Every step-th block of the matrix, from block first on."""
    means, kind, depth = plan(shape)
    matrix = np.load(path, mmap_mode="r+")
    for start in range(first * BLOCK, shape[0], step * BLOCK):
        rng = np.random.default_rng((SEED, start))
        rows = slice(start, min(start + BLOCK, shape[0]))
        mean = means[kind[rows]] * depth[rows, None] / DISPERSION
        mean *= rng.standard_gamma(DISPERSION, mean.shape, dtype=np.float32)
        matrix[rows] = rng.poisson(mean)


def make(path, shape, processes):
    """Write the matrix to path (.npy, float32)."""
    np.lib.format.open_memmap(path, "w+", np.float32, shape).flush()
    workers = [multiprocessing.Process(target=fill,
                                       args=(path, shape, i, processes))
               for i in range(processes)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise RuntimeError("the counts could not be made")


def true_types(shape):
    """The type that each cell was given."""
    return plan(shape)[1]
