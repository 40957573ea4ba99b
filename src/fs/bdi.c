/* SPDX-License-Identifier: GPL-2.0-or-later */
/* bdi.c - see bdi.h. */
#include "bdi.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "log.h"

static void set(dev_t dev, const char *name, const char *value)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/%s", major(dev),
		 minor(dev), name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (write(fd, value, strlen(value)) < 0)
		msnap_fs_log(LOG_INFO, "%s: cannot be set to %s", path, value);
	close(fd);
}

void msnap_fs_bdi_tune(dev_t dev)
{
	/* Two requests of the largest size. */
	set(dev, "read_ahead_kb", "2048");
	set(dev, "max_ratio", "100");
	set(dev, "strict_limit", "0");
}
