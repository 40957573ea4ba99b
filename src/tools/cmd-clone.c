/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * msnapfs clone - a file or directory once more, sharing its contents.
 *
 * Source and target are named as for cp(1); besides, PATH@NAME is PATH as it was
 * in the restore point NAME.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/control.h"
#include "target.h"
#include "verbs.h"

struct source {
	const char *shown; /* as the user wrote it */
	char *base;	   /* name of a clone that is put into a directory */
	struct stat st;
	int fd;
};

struct place {
	int fd; /* the directory */
	char name[256];
	bool exists; /* the name does */
	struct stat st;
};

static int complain(const char *path, int err)
{
	return msnap_cli_error("%s: %s", path, msnap_cli_reason(err));
}

/* ---- source ------------------------------------------------------------- */

/* The last component of what @path leads to. */
static char *base_of(const char *path)
{
	char *real = realpath(path, NULL);
	char *base = real ? strdup(strrchr(real, '/') + 1) : NULL;

	free(real);
	return base;
}

static int open_source_path(struct source *src, const char *path)
{
	/* A look before the open: opening a pipe or a device has effects. */
	if (stat(path, &src->st) < 0)
		return -errno;
	if (!S_ISREG(src->st.st_mode) && !S_ISDIR(src->st.st_mode))
		return -EMEDIUMTYPE;
	src->fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (src->fd < 0)
		return -errno;
	return fstat(src->fd, &src->st) < 0 ? -errno : 0;
}

/* @target's directory or file as its restore point has it. */
static int open_source_at(struct source *src, const struct msnap_target *target)
{
	struct msnap_ioc_snap_entry entry;
	char *path;
	int err;

	if (msnap_target_find(target, &entry))
		return MSNAP_EXIT_FAILED;
	if (asprintf(&path, "%s/.snap/%s/%s", target->dir, target->name,
		     target->file) < 0)
		return complain(src->shown, ENOMEM);
	err = open_source_path(src, path);
	if (!err) {
		src->base = *target->file ? strdup(target->file) :
					    base_of(target->shown);
		err = src->base ? 0 : -ENOMEM;
	}
	free(path);
	return err ? complain(src->shown, err) : 0;
}

static int open_source(struct source *src, const char *operand)
{
	struct msnap_target target;
	int err, status;

	src->shown = operand;
	src->fd = -1;
	err = open_source_path(src, operand);
	if (!err && !(src->base = base_of(operand)))
		err = -errno;
	if (err == -ENOENT && strchr(operand, '@')) {
		status = msnap_target_check(operand);
		if (status)
			return status;
		if (msnap_target_open_at(&target, operand))
			return MSNAP_EXIT_FAILED;
		status = open_source_at(src, &target);
		msnap_target_close(&target);
		return status;
	}
	if (err == -EMEDIUMTYPE)
		return msnap_cli_error("%s: neither a regular file nor a "
				       "directory", operand);
	return err ? complain(operand, err) : 0;
}

/* ---- place of the clone -------------------------------------------------- */

/* Divide @path, which names no directory, into its directory and its name. */
static int open_parent(struct place *place, const char *path)
{
	char *copy = strdup(path);
	size_t len = strlen(path);
	char *base;
	int err = 0;

	if (!copy)
		return -ENOMEM;
	while (len > 1 && copy[len - 1] == '/')
		copy[--len] = '\0';
	base = strrchr(copy, '/');
	base = base ? base + 1 : copy;
	if (!*base)
		err = -ENOENT;
	else if (strlen(base) >= sizeof(place->name))
		err = -ENAMETOOLONG;
	if (!err) {
		strcpy(place->name, base);
		strcpy(base, base == copy ? "." : "");
		place->fd = open(copy, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		err = place->fd < 0 ? -errno : 0;
	}
	free(copy);
	return err;
}

/* The directory @path, in which the clone gets the source's name. */
static int open_into(struct place *place, const char *path, const char *base)
{
	if (!*base)
		return -EINVAL; /* the source is "/" */
	strcpy(place->name, base);
	place->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return place->fd < 0 ? -errno : 0;
}

static int open_place(struct place *place, const char *path, const char *base)
{
	struct stat st;
	int err;

	place->fd = -1;
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		err = open_into(place, path, base);
	else
		err = open_parent(place, path);
	if (err)
		return err;
	place->exists = fstatat(place->fd, place->name, &place->st,
				AT_SYMLINK_NOFOLLOW) == 0;
	return 0;
}

/* ---- clone --------------------------------------------------------------- */

/* What would go wrong, said better than an errno could.  0, or the status. */
static int check(const struct source *src, const struct place *place,
		 const char *dst, uint32_t flags)
{
	struct stat st;

	if (fstat(place->fd, &st) < 0)
		return complain(dst, errno);
	if (st.st_dev != src->st.st_dev)
		return msnap_cli_error("%s: not on the same mount as %s; a clone "
				       "cannot leave its filesystem, cp can", dst,
				       src->shown);
	if (S_ISDIR(src->st.st_mode) && !(flags & MSNAP_IOC_CLONE_RECURSIVE))
		return msnap_cli_error("%s: is a directory; clone it with -r",
				       src->shown);
	if (!place->exists)
		return 0;
	if (place->st.st_dev == src->st.st_dev &&
	    place->st.st_ino == src->st.st_ino)
		return msnap_cli_error("%s: is %s itself", dst, src->shown);
	if (!(flags & MSNAP_IOC_CLONE_REPLACE))
		return msnap_cli_error("%s: '%s' exists; -f replaces a file", dst,
				       place->name);
	if (S_ISDIR(place->st.st_mode) || S_ISDIR(src->st.st_mode))
		return msnap_cli_error("%s: '%s' exists, and -f replaces only a "
				       "file by a file", dst, place->name);
	return 0;
}

static int report(const struct source *src, const struct place *place,
		  const char *dst, int err)
{
	if (err == -EINVAL && S_ISDIR(src->st.st_mode))
		return msnap_cli_error("%s: this directory cannot be cloned; what is "
				       "in it can", src->shown);
	if (err == -EEXIST)
		return msnap_cli_error("%s: '%s' exists; -f replaces a file", dst,
				       place->name);
	return complain(dst, err);
}

static int clone(const struct source *src, const struct place *place,
		 const char *dst, uint32_t flags)
{
	struct msnap_ioc_clone arg = { .flags = flags };
	int err, status = check(src, place, dst, flags);

	if (status)
		return status;
	err = msnap_cli_ioctl(place->fd, MSNAP_IOC_REF, &arg.ref);
	if (err)
		return complain(dst, err);
	strcpy(arg.name, place->name);
	err = msnap_cli_ioctl(src->fd, MSNAP_IOC_CLONE, &arg);
	return err ? report(src, place, dst, err) : 0;
}

static int clone_paths(const char *from, const char *dst, uint32_t flags)
{
	struct source src = { 0 };
	struct place place = { .fd = -1 };
	int err, status = open_source(&src, from);

	if (!status) {
		err = open_place(&place, dst, src.base);
		status = err ? complain(dst, err) :
			       clone(&src, &place, dst, flags);
	}
	if (place.fd >= 0)
		close(place.fd);
	if (src.fd >= 0)
		close(src.fd);
	free(src.base);
	return status;
}

static int run(int argc, char **argv)
{
	static const struct option longopts[] = {
		{ "recursive", no_argument, NULL, 'r' },
		{ "force", no_argument, NULL, 'f' },
		MSNAP_COMMON_LONG
	};
	uint32_t flags = 0;
	int opt;

	while ((opt = msnap_cli_getopt(argc, argv, "rfhV", longopts)) != -1)
		flags |= opt == 'r' ? MSNAP_IOC_CLONE_RECURSIVE :
				      MSNAP_IOC_CLONE_REPLACE;
	if (argc - optind != 2)
		return msnap_cli_usage("a source and a target are needed");
	return clone_paths(argv[optind], argv[optind + 1], flags);
}

const struct msnap_cmd msnap_cmd_clone = {
	.name = "msnapfs clone",
	.args = "[-r] [-f] SOURCE TARGET",
	.summary = "Clone a file or directory, live or in a restore point, without "
		   "copying.",
	.options = "  -r, --recursive        a directory, with everything below it\n"
		   "  -f, --force            replace TARGET when it is a file\n",
	.run = run,
};
