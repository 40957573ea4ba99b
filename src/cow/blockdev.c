/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "blockdev.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static int say(struct msnap_why *why, int err, const char *device, const char *text)
{
	snprintf(why->text, sizeof(why->text), "%s: %s", device, text);
	return err;
}

/* ---- making ----------------------------------------------------------------- */

/*
 * 2 MiB stripes, so that the pool begins where huge pages can map it.  And few
 * allocation groups: it goes on without a gap, so aligned, as far as one reaches; in
 * the other are the views, which are in a directory.  (1 TiB is the largest that XFS
 * can have.)
 */
#define ONE_STRIPE "su=2m,sw=1"
#define TWO_GROUPS ONE_STRIPE ",agcount=2"
#define TWO_GROUPS_MAX (2ull << 40)

static int run_mkfs(const char *device)
{
	bool two = msnap_blockdev_size(device) < TWO_GROUPS_MAX;
	char *const argv[] = { "mkfs.xfs", "-q", "-f", "-L", MSNAP_BLOCKDEV_LABEL,
			       "-m", "reflink=1", "-d",
			       two ? TWO_GROUPS : ONE_STRIPE, (char *)device,
			       NULL };
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

/* ---- waiting ---------------------------------------------------------------- */

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ull + now.tv_nsec / 1000000;
}

/* True after a pause, false when it is later than @until. */
static bool pause_before(uint64_t until)
{
	static const struct timespec pause = { .tv_nsec = 20 * 1000000 };

	return now_ms() < until && !nanosleep(&pause, NULL);
}

int msnap_blockdev_wait(const char *device, unsigned wait_ms, struct msnap_why *why)
{
	uint64_t until = now_ms() + wait_ms;
	int fd;

	do {
		fd = open(device, O_RDWR | O_EXCL | O_CLOEXEC);
	} while (fd < 0 && errno == EBUSY && pause_before(until));
	if (fd < 0)
		return say(why, -errno, device, errno == EBUSY ?
			   "is mounted or in use; unmount it first" :
			   strerror(errno));
	close(fd);
	return 0;
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

int msnap_blockdev_mount(const char *device, bool read_only, unsigned wait_ms,
			 int *out, char file[MSNAP_BLOCKDEV_PATH],
			 struct msnap_why *why)
{
	uint64_t until = now_ms() + wait_ms;
	int fd;

	do {
		fd = mount_xfs(device, read_only);
	} while (fd == -EBUSY && pause_before(until));
	if (fd == -EPERM)
		return say(why, fd, device, "only root can use a pool on a block "
			   "device");
	if (fd == -EBUSY)
		return say(why, fd, device, "is in use by another process (already "
			   "mounted?)");
	if (fd < 0)
		return say(why, -EMEDIUMTYPE, device, "not a memsnapfs pool "
			   "(mkfs.memsnapfs makes one)");
	snprintf(file, MSNAP_BLOCKDEV_PATH, "/proc/self/fd/%d/pool", fd);
	*out = fd;
	return 0;
}

void msnap_blockdev_name(const char *device, const char *file, struct msnap_why *why)
{
	struct msnap_why inner = *why;
	size_t len = strlen(file);

	if (!strncmp(inner.text, file, len))
		snprintf(why->text, sizeof(why->text), "%s%.300s", device,
			 inner.text + len);
}

/* ---- sizes --------------------------------------------------------------------- */

uint64_t msnap_blockdev_size(const char *device)
{
	int fd = open(device, O_RDONLY | O_CLOEXEC);
	uint64_t size;

	if (fd < 0)
		return 0;
	if (ioctl(fd, BLKGETSIZE64, &size))
		size = 0;
	close(fd);
	return size;
}

/* The pool is sparse: views and it share the room.  A little is the filesystem's. */
uint64_t msnap_blockdev_room(int fd)
{
	struct statvfs st;

	if (fstatvfs(fd, &st))
		return 0;
	return (uint64_t)st.f_bavail * st.f_frsize / 64 * 63 & ~(uint64_t)0x1fffff;
}
