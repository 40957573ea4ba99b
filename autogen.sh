#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Make ./configure from configure.ac, in a fresh checkout.
set -eu
cd "$(dirname "$0")"
exec autoreconf --force --install
