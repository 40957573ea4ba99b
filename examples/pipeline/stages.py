# SPDX-License-Identifier: GPL-2.0-or-later
"""The stages of the analysis: plain numpy on arrays that somebody else keeps.

Each changes the arrays of a dataset in place.  Whether those are in memory or mapped
from files makes no difference here.  A dataset has

    matrix  cells x genes, float32: counts first, then what the stages make of them
    cells   one record for each cell, CELL
    genes   one record for each gene, GENE
    pca     cells x COMPONENTS, float32
"""

import numpy as np

CELL = np.dtype([("total", "f4"), ("genes", "i4"), ("keep", "?"),
                 ("cluster", "i4")])
GENE = np.dtype([("in_cells", "i4"), ("mean", "f4"), ("deviation", "f4"),
                 ("chosen", "?")])
COMPONENTS = 16
CHOSEN = 500            # genes that go on to the principal components
CLUSTERS = 8
ROWS = 1000             # cells worked on at a time


class Failure(Exception):
    """The stage stopped in the middle, as a power cut or a bug would have it."""


def chunks(matrix):
    for start in range(0, len(matrix), ROWS):
        yield slice(start, start + ROWS)


def quality(data):
    """Which cells have enough in them."""
    cells, seen = data["cells"], np.zeros(data["matrix"].shape[1], "i8")
    for rows in chunks(data["matrix"]):
        block = data["matrix"][rows]
        cells["total"][rows] = block.sum(axis=1)
        cells["genes"][rows] = np.count_nonzero(block, axis=1)
        seen += np.count_nonzero(block, axis=0)
    data["genes"]["in_cells"] = seen
    cells["keep"] = cells["total"] > np.median(cells["total"]) / 4


def normalise(data, target=None):
    """The same depth for every cell; cells not kept become empty."""
    cells = data["cells"]
    if target is None:
        target = np.median(cells["total"][cells["keep"]])
    factor = np.where(cells["keep"], target / np.maximum(cells["total"], 1), 0)
    factor = factor.astype(np.float32)
    for rows in chunks(data["matrix"]):
        data["matrix"][rows] *= factor[rows, None]


def logarithm(data, fails=False):
    """log(1 + x)."""
    matrix = data["matrix"]
    for rows in chunks(matrix):
        if fails and rows.start >= len(matrix) // 2:
            raise Failure("half of the cells are logarithms, half are not")
        np.log1p(matrix[rows], out=matrix[rows])


def choose(data):
    """The genes that differ most among cells, for their mean."""
    matrix, genes = data["matrix"], data["genes"]
    total = np.zeros(matrix.shape[1])
    square = np.zeros(matrix.shape[1])
    for rows in chunks(matrix):
        block = matrix[rows]
        total += block.sum(axis=0)
        square += np.einsum("ij,ij->j", block, block)
    nr = np.count_nonzero(data["cells"]["keep"])
    mean = total / nr
    variance = np.maximum(square / nr - mean ** 2, 0)
    genes["mean"] = mean
    genes["deviation"] = np.sqrt(variance)
    # Genes with a like mean are compared with each other.
    by_mean = np.array_split(np.argsort(mean, kind="stable"), 20)
    score = np.empty(len(mean))
    for group in by_mean:
        ratio = variance[group] / np.maximum(mean[group], 1e-12)
        score[group] = (ratio - ratio.mean()) / (ratio.std() + 1e-12)
    genes["chosen"] = False
    genes["chosen"][np.argsort(-score, kind="stable")[:CHOSEN]] = True


def scale(data, limit=10.0):
    """Mean 0 and deviation 1 for every gene, no value beyond the limit."""
    mean = np.array(data["genes"]["mean"])
    factor = 1 / np.maximum(data["genes"]["deviation"], np.float32(1e-6))
    keep = data["cells"]["keep"].astype(np.float32)
    for rows in chunks(data["matrix"]):
        block = data["matrix"][rows]
        block -= mean
        block *= factor
        np.clip(block, -limit, limit, out=block)
        block *= keep[rows, None]


def components(data):
    """Principal components of the chosen genes: randomised SVD."""
    matrix = data["matrix"]
    chosen = np.flatnonzero(data["genes"]["chosen"])
    x = np.empty((len(matrix), len(chosen)), np.float32)
    for rows in chunks(matrix):
        x[rows] = matrix[rows][:, chosen]
    rng = np.random.default_rng(0)
    q = rng.standard_normal((len(chosen), COMPONENTS + 8), dtype=np.float32)
    for _ in range(2):
        q = np.linalg.qr(x.T @ (x @ q))[0]
    u, s, _ = np.linalg.svd(x @ q, full_matrices=False)
    data["pca"][:] = (u * s)[:, :COMPONENTS]


def nearest(points, centres):
    """For each point the nearest centre, and its distance squared."""
    distance = (np.einsum("ij,ij->i", points, points)[:, None]
                - 2 * points @ centres.T
                + np.einsum("ij,ij->i", centres, centres))
    best = distance.argmin(axis=1)
    return best, np.maximum(distance[np.arange(len(points)), best], 0)


def first_centres(points, rng):
    """As k-means++ has it: far from each other."""
    centres = points[rng.integers(len(points))][None]
    while len(centres) < CLUSTERS:
        far = nearest(points, centres)[1]
        pick = rng.choice(len(points), p=far / far.sum())
        centres = np.vstack([centres, points[pick]])
    return centres


def cluster(data):
    """k-means on the principal components, the best of five; -1: not kept."""
    keep = data["cells"]["keep"]
    points = np.array(data["pca"][keep], "f8")
    rng = np.random.default_rng(0)
    least = np.inf
    for _ in range(5):
        centres = first_centres(points, rng)
        for _ in range(15):
            label, far = nearest(points, centres)
            centres = np.array([points[label == i].mean(axis=0)
                                if (label == i).any() else centres[i]
                                for i in range(CLUSTERS)])
        if far.sum() < least:
            least, best = far.sum(), label
    data["cells"]["cluster"] = -1
    data["cells"]["cluster"][keep] = best


def agreement(label, truth):
    """Adjusted Rand index of two ways to group the same cells: 1 is the same."""
    table = np.zeros((label.max() + 1, truth.max() + 1))
    np.add.at(table, (label, truth), 1)

    def pairs(n):
        return (n * (n - 1) / 2).sum()
    both, a, b = pairs(table), pairs(table.sum(1)), pairs(table.sum(0))
    chance = a * b / pairs(table.sum())
    return (both - chance) / ((a + b) / 2 - chance)
