/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "target.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "points.h"
#include "units.h"

static int complain(const char *path, int err)
{
	msnap_cli_error("%s: %s", path, msnap_cli_reason(err));
	return -1;
}

/* Cut the slashes at the end, except that of "/". */
static void trim(char *path)
{
	size_t len = strlen(path);

	while (len > 1 && path[len - 1] == '/')
		path[--len] = '\0';
}

/*
 * Cut the last component off @path, which has been trimmed, and return it; the
 * result lies in @path or is a constant, as @parent does.
 */
static const char *cut(char *path, const char **parent)
{
	char *slash = strrchr(path, '/');

	if (!slash) {
		*parent = ".";
		return path;
	}
	*slash = '\0';
	*parent = slash == path ? "/" : path;
	return slash + 1;
}

static bool is_dots(const char *name)
{
	return !strcmp(name, ".") || !strcmp(name, "..");
}

/* Make @path's parent the target's directory, and its last component the entry. */
static int enter_parent(struct msnap_target *target, const char *path)
{
	char *copy = strdup(path);
	const char *parent, *base;
	int err = 0;

	if (!copy)
		return -ENOMEM;
	trim(copy);
	base = cut(copy, &parent);
	if (!*base || is_dots(base))
		err = -ENOENT;
	else if (strlen(base) >= sizeof(target->file))
		err = -ENAMETOOLONG;
	else if (!(target->dir = realpath(parent, NULL)))
		err = -errno;
	else
		strcpy(target->file, base);
	free(copy);
	return err;
}

static int enter_existing(struct msnap_target *target, char *real)
{
	int err;

	target->exists = true;
	if (S_ISDIR(target->st.st_mode)) {
		target->dir = real;
		return 0;
	}
	err = enter_parent(target, real);
	free(real);
	return err;
}

static int enter(struct msnap_target *target, const char *path, bool missing_ok)
{
	char *real = realpath(path, NULL);
	int err;

	if (!real)
		return errno == ENOENT && missing_ok ?
			       enter_parent(target, path) : -errno;
	if (stat(real, &target->st) < 0) {
		err = -errno;
		free(real);
		return err;
	}
	return enter_existing(target, real);
}

int msnap_target_open(struct msnap_target *target, const char *path,
		      bool missing_ok)
{
	int err;

	memset(target, 0, sizeof(*target));
	target->fd = -1;
	target->shown = strdup(path);
	err = target->shown ? enter(target, path, missing_ok) : -ENOMEM;
	if (!err) {
		target->fd = open(target->dir,
				  O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (target->fd >= 0)
			return 0;
		err = -errno;
	}
	msnap_target_close(target);
	return complain(path, err);
}

void msnap_target_close(struct msnap_target *target)
{
	if (target->fd >= 0)
		close(target->fd);
	free(target->dir);
	free(target->shown);
}

int msnap_name_check(const char *what, const char *name)
{
	if (!*name)
		return msnap_cli_usage("%s: the restore point's name is empty",
				       what);
	if (is_dots(name) || strchr(name, '/'))
		return msnap_cli_usage("%s: a restore point's name cannot be "
				       "'.' or '..', nor have a '/'", what);
	if (strlen(name) > MSNAP_IOC_NAME_MAX)
		return msnap_cli_usage("%s: the restore point's name is too long: "
				       "%zu bytes, at most %d are possible",
				       what, strlen(name), MSNAP_IOC_NAME_MAX);
	return 0;
}

/* Where the @ is that divides @operand, or NULL. */
static const char *divider(const char *operand)
{
	const char *slash = strrchr(operand, '/');
	const char *low = slash ? slash + 1 : operand;
	const char *last = strrchr(low, '@');
	const char *at;
	struct stat st;
	char *path;
	bool found;

	for (at = last; at; at = memrchr(low, '@', (size_t)(at - low))) {
		path = strndup(operand, (size_t)(at - operand));
		found = path && (!*path || lstat(path, &st) == 0);
		free(path);
		if (found)
			return at;
	}
	return last;
}

int msnap_target_split(const char *operand, char **path, char **name)
{
	const char *at = divider(operand);
	char *new_path, *new_name;

	if (!at)
		return -EINVAL;
	new_path = at == operand ? strdup(".") :
				   strndup(operand, (size_t)(at - operand));
	new_name = strdup(at + 1);
	if (!new_path || !new_name) {
		free(new_path);
		free(new_name);
		return -ENOMEM;
	}
	*path = new_path;
	*name = new_name;
	return 0;
}

int msnap_target_check(const char *operand)
{
	const char *at = divider(operand);

	if (!at)
		return msnap_cli_usage("%s: names no restore point; write "
				       "PATH@NAME", operand);
	return msnap_name_check(operand, at + 1);
}

int msnap_target_open_at(struct msnap_target *target, const char *operand)
{
	char *path, *name;
	int err = msnap_target_split(operand, &path, &name);

	if (err)
		return complain(operand, err);
	err = msnap_target_open(target, path, true);
	if (!err)
		snprintf(target->name, sizeof(target->name), "%s", name);
	free(path);
	free(name);
	return err;
}

int msnap_target_no_point(const char *shown, const char *name)
{
	char *quoted = msnap_quote(shown);

	msnap_cli_error("%s@%s: no such restore point; 'msnapfs list %s' shows "
			"those there are", shown, name, quoted ? quoted : shown);
	free(quoted);
	return MSNAP_EXIT_FAILED;
}

static void report_missing(const struct msnap_target *target)
{
	struct msnap_ioc_snap_entry entry;

	/* Perhaps it is there, but without this file. */
	if (*target->file &&
	    msnap_points_find(target->fd, "", target->name, &entry) == 0)
		msnap_cli_error("%s@%s: the restore point '%s' does not hold this "
				"file", target->shown, target->name,
				target->name);
	else
		msnap_target_no_point(target->shown, target->name);
}

int msnap_target_find(const struct msnap_target *target,
		      struct msnap_ioc_snap_entry *entry)
{
	int err = msnap_points_find(target->fd, target->file, target->name,
				    entry);

	if (err == -ENOENT)
		report_missing(target);
	else if (err)
		msnap_cli_error("%s@%s: %s", target->shown, target->name,
				msnap_cli_reason(err));
	return err ? -1 : 0;
}

/* Cut the last component off the absolute path @path.  False: it was "/". */
static bool go_up(char *path)
{
	char *slash = strrchr(path, '/');

	if (!path[1])
		return false;
	slash[slash == path] = '\0';
	return true;
}

bool msnap_find_above(const char *dir, unsigned long long ino,
		      char found[PATH_MAX])
{
	char path[PATH_MAX];
	struct stat first, st;
	bool any = false;

	if (strlen(dir) >= sizeof(path) || stat(dir, &first) < 0)
		return false;
	strcpy(path, dir);
	do {
		if (stat(path, &st) < 0 || st.st_dev != first.st_dev)
			break;
		any = !ino || st.st_ino == ino;
		if (any)
			strcpy(found, path);
	} while ((!ino || !any) && go_up(path));
	return any;
}
