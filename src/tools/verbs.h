/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * verbs.h - the verbs of msnapfs, each in its cmd-VERB.c.
 */
#ifndef MSNAP_TOOLS_VERBS_H
#define MSNAP_TOOLS_VERBS_H

#include "cli.h"

extern const struct msnap_cmd msnap_cmd_snap;
extern const struct msnap_cmd msnap_cmd_list;
extern const struct msnap_cmd msnap_cmd_delete;
extern const struct msnap_cmd msnap_cmd_rename;
extern const struct msnap_cmd msnap_cmd_clone;
extern const struct msnap_cmd msnap_cmd_rollback;
extern const struct msnap_cmd msnap_cmd_info;
extern const struct msnap_cmd msnap_cmd_scrub;

#endif
