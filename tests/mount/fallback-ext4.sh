#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# fallback-ext4.sh - files cannot share blocks on ext4: everything is cached.
exec "$(dirname "$0")/on-host" ext4 basic.sh snap.sh rollback.py cli.sh writers.py
