#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# direct-xfs.sh - direct mode, the pool on xfs.
exec "$(dirname "$0")/on-host" xfs basic.sh snap.sh rollback.py tree.py chaos.py cli.sh \
	writers.py apps.py full.sh kept.py remount.sh scrub.sh cp.sh rights.py user.sh \
	direct.py steps.py direct-cut.py direct-kill.py
