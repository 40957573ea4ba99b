#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# direct-btrfs.sh - direct mode, the pool on btrfs.
exec "$(dirname "$0")/on-host" btrfs basic.sh snap.sh rollback.py tree.py chaos.py \
	writers.py \
	full.sh kept.py cp.sh direct.py steps.py direct-cut.py direct-kill.py
