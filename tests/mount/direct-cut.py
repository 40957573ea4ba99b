#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Restore points of a file are of one instant, under a writer at full speed.

See exact-cut.c.  MSNAP_CUTS: how many (20).
"""

import os
import subprocess
import sys

sys.dont_write_bytecode = True
from mountlib import Mount


def main():
    build = os.environ.get("MSNAP_BUILD", ".")
    with Mount("2G") as m:
        subprocess.run([build + "/tests/mount/exact-cut", m.dir + "/file",
                        os.environ.get("MSNAP_CUTS", "20")], check=True)
    print("ok: exact cuts")


if __name__ == "__main__":
    sys.exit(main())
