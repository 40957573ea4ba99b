# SPDX-License-Identifier: GPL-2.0-or-later
"""The table at the end: what each stage took, the old way and with memsnapfs."""

import collections

# Seconds of computing, seconds for keeping its result (save and load; or snapshot,
# clone and rollback), bytes of space that it took.
Row = collections.namedtuple("Row", "computing kept space")

HEAD = (("", "compute", "compute", "save", "snapshot", "", "space", "space"),
        ("stage", "memory", "mapped", "+load", "+clone", "ratio", "old", "here"))
NOTES = """\
compute  the old way on arrays in memory, here on mapped files: with reading
         them, and with changed pages on their way to the pool
+load    the old way: np.save and fsync; np.load of what is needed, from disk
+clone   here; with the rollback, and copying the counts into the filesystem
space    taken by the results of the stage
"""


def seconds(value):
    if not value:
        return "-"
    return "%.0f ms" % (value * 1000) if value < 0.9995 else "%.1f s" % value


def size(value):
    if value < 0:
        return "-" + size(-value)
    if value >= 2 ** 30:
        return "%.1fG" % (value / 2 ** 30)
    if value >= 2 ** 20:
        return "%.0fM" % (value / 2 ** 20)
    return "%.0fK" % (value / 2 ** 10) if value else "-"


def ratio(old, new):
    if not old or not new:
        return "-"
    value = old / new
    return "%.1fx" % value if value < 9.95 else "%.0fx" % value


def cells(title, old, new):
    return (title, seconds(old.computing), seconds(new.computing),
            seconds(old.kept), seconds(new.kept), ratio(old.kept, new.kept),
            size(old.space), size(new.space))


def total(rows):
    return Row(*(sum(column) for column in zip(*rows.values())))


def line(words, widths):
    return "  ".join([words[0].ljust(widths[0])] +
                     [word.rjust(width)
                      for word, width in zip(words[1:], widths[1:])]).rstrip()


def show(old, new, disk):
    """Two runs with the same rows; disk: seconds that loads from the disk took longer
    than loads from the page cache."""
    body = [cells(title, old.rows[title], new.rows[title])
            for title in new.rows]
    all_old, all_new = total(old.rows), total(new.rows)
    last = cells("all stages", all_old, all_new)
    widths = [max(len(word) for word in column)
              for column in zip(*HEAD, *body, last)]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    for words in HEAD:
        print(line(words, widths))
    print(rule)
    for words in body:
        print(line(words, widths))
    print(rule)
    print(line(last, widths))
    print()
    print(NOTES)
    sum_old = all_old.computing + all_old.kept
    print("All of it: %s the old way (%s if files were still in the page cache),\n"
          "%s here." % (seconds(sum_old), seconds(sum_old - disk),
                        seconds(all_new.computing + all_new.kept)))
