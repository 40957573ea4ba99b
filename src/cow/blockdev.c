/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "blockdev.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static int say(struct msnap_why *why, int err, const char *device, const char *text)
{
	snprintf(why->text, sizeof(why->text), "%s: %s", device, text);
	return err;
}

/* ---- making ----------------------------------------------------------------- */

/* 2 MiB stripes, so that large extents begin where huge pages can map them. */
static int run_mkfs(const char *device)
{
	char *const argv[] = { "mkfs.xfs", "-q", "-f", "-m", "reflink=1",
			       "-d", "su=2m,sw=1", (char *)device, NULL };
	posix_spawn_file_actions_t actions;
	int status, err;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
	err = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (err)
		return -err;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (!WIFEXITED(status))
		return -EIO;
	return WEXITSTATUS(status) == 127 ? -ENOENT :
	       WEXITSTATUS(status) ? -EIO : 0;
}

int msnap_blockdev_make(const char *device, struct msnap_why *why)
{
	int err = run_mkfs(device);

	if (err == -ENOENT)
		return say(why, err, device, "a pool on a block device needs "
			   "mkfs.xfs; install xfsprogs");
	return err ? say(why, err, device, "mkfs.xfs failed; the device must have at "
			 "least 300 MiB and be writable") : 0;
}

/* ---- mounting ------------------------------------------------------------------ */

static int mount_once(const char *device, bool read_only, bool dax)
{
	int fs = fsopen("xfs", FSOPEN_CLOEXEC), fd = -1, err = 0;

	if (fs < 0)
		return -errno;
	if (fsconfig(fs, FSCONFIG_SET_STRING, "source", device, 0) ||
	    (read_only && fsconfig(fs, FSCONFIG_SET_FLAG, "ro", NULL, 0)) ||
	    (dax && fsconfig(fs, FSCONFIG_SET_STRING, "dax", "always", 0)) ||
	    fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		err = -errno;
	if (!err) {
		fd = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NODEV |
						  MOUNT_ATTR_NOSUID |
						  MOUNT_ATTR_NOATIME);
		err = fd < 0 ? -errno : 0;
	}
	close(fs);
	return err ? err : fd;
}

/* XFS takes dax=always on any device, and falls back by itself with a warning; kernels
 * that do not know it refuse. */
static int mount_xfs(const char *device, bool read_only)
{
	int fd = mount_once(device, read_only, true);

	return fd >= 0 || fd == -EPERM || fd == -EBUSY ?
		       fd : mount_once(device, read_only, false);
}

int msnap_blockdev_mount(const char *device, bool read_only, int *out,
			 char file[MSNAP_BLOCKDEV_PATH], struct msnap_why *why)
{
	int fd = mount_xfs(device, read_only);

	if (fd == -EPERM)
		return say(why, fd, device, "only root can use a pool on a block "
			   "device");
	if (fd == -EBUSY)
		return say(why, fd, device, "is in use");
	if (fd < 0)
		return say(why, -EMEDIUMTYPE, device, "not a memsnapfs pool "
			   "(mkfs.memsnapfs makes one)");
	snprintf(file, MSNAP_BLOCKDEV_PATH, "/proc/self/fd/%d/pool", fd);
	*out = fd;
	return 0;
}

/* The pool is sparse: views and it share the room.  A little is the filesystem's. */
uint64_t msnap_blockdev_room(int fd)
{
	struct statvfs st;

	if (fstatvfs(fd, &st))
		return 0;
	return (uint64_t)st.f_bavail * st.f_frsize / 64 * 63 & ~(uint64_t)0x1fffff;
}
