#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# full-host.sh - the filesystem that the pool is on runs full.
here=$(dirname "$0")
"$here/on-host" -s 500M xfs sparse.py && "$here/on-host" -s 700M btrfs sparse.py
