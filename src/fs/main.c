/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * main.c - mount.memsnapfs: open a pool, mount it, serve it until the end.
 *
 * Exit status: 0 the mount is ready (in the foreground: has ended well), 1 it
 * failed, 2 the command line is wrong.
 */
#include "fs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bdi.h"
#include "ctl.h"
#include "daemon.h"
#include "direct.h"
#include "flush.h"
#include "gate.h"
#include "guard.h"
#include "log.h"
#include "lost.h"
#include "node.h"
#include "ops.h"
#include "opts.h"
#include "passthrough.h"
#include "reply.h"
#include "scrub.h"
#include "snapdir.h"
#include "stop.h"
#include "table.h"

/* How long the last daemon of this pool may take to end, after umount(8). */
#define LOCK_WAIT_MS 10000

#define MIN_THREADS 10
#define MAX_THREADS 16 /* each has a buffer of 1 MiB */

/* What starting needs beside the filesystem itself. */
struct server {
	struct fs fs;
	struct msnap_fs_opts opts;
	struct msnap_fs_report report;
	bool mounted;
};

static int open_pool(struct server *server)
{
	struct fs *fs = &server->fs;
	const struct msnap_open_args args = {
		.flags = server->opts.read_only ? MSNAP_OPEN_RDONLY : 0,
		.commit_ms = server->opts.commit_s * 1000,
		.lock_wait_ms = LOCK_WAIT_MS,
		.log = msnap_fs_log_engine,
	};
	struct msnap_pool_info info;
	struct msnap_why why = { "" };
	const char *hint = "";
	int err = msnap_pool_open(server->opts.pool, &args, &fs->pool, &why);

	if (err == -EMEDIUMTYPE && !strstr(why.text, "mkfs"))
		hint = " (mkfs.memsnapfs makes one)";
	if (err)
		msnap_fs_report_failed(&server->report, "%s%s",
				       why.text[0] ? why.text : strerror(-err),
				       hint);
	else if (msnap_pool_info(fs->pool, &info) == 0)
		fs->was_clean = info.was_clean;
	return err;
}

static void set_cached(struct fs *fs, const char *why)
{
	fs->mode = "cached";
	snprintf(fs->mode_why, sizeof(fs->mode_why), "%s", why);
}

/* A cached mount would show, and change, what is older than the views. */
static int check_not_needed(struct server *server)
{
	if (!msnap_fs_direct_is_needed(&server->fs))
		return 0;
	msnap_fs_report_failed(&server->report, "the pool has no room for the latest "
			       "contents of some files, which are in %s.views: "
			       "mount with mode=direct and delete something",
			       server->opts.pool);
	return -ENOSPC;
}

/* Direct where it can be.  What the kernel says is known later: settle_mode(). */
static int choose_mode(struct server *server)
{
	struct fs *fs = &server->fs;
	char why[200] = "";
	int err = msnap_fs_direct_recover(fs, why, sizeof(why));

	if (err) {
		msnap_fs_report_failed(&server->report, "%s", why);
		return err;
	}
	set_cached(fs, "asked for with mode=cached");
	if (server->opts.mode == MSNAP_FS_MODE_CACHED)
		return check_not_needed(server);
	if (server->opts.read_only) {
		snprintf(why, sizeof(why), "a read-only mount needs no views");
		err = -EROFS;
	} else {
		err = msnap_fs_direct_new(fs, why, sizeof(why), &fs->direct);
	}
	if (!err)
		return 0;
	if (server->opts.mode == MSNAP_FS_MODE_DIRECT) {
		msnap_fs_report_failed(&server->report, "mode=direct cannot be: %s",
				       why[0] ? why : strerror(-err));
		return err;
	}
	set_cached(fs, why[0] ? why : strerror(-err));
	return check_not_needed(server);
}

/* After the kernel's first request. */
static bool settle_mode(struct server *server)
{
	struct fs *fs = &server->fs;

	if (!fs->direct)
		return true;
	if (msnap_fs_pass_works()) {
		fs->mode = "direct";
		snprintf(fs->mode_why, sizeof(fs->mode_why), "kernel and host "
			 "filesystem allow it");
		return true;
	}
	set_cached(fs, "the kernel has no FUSE passthrough (Linux 6.9 has)");
	return !msnap_fs_direct_is_needed(fs) &&
	       server->opts.mode != MSNAP_FS_MODE_DIRECT;
}

static int make_parts(struct server *server)
{
	struct fs *fs = &server->fs;
	int err = msnap_fs_nodes_new(&fs->nodes);

	if (!err)
		err = msnap_fs_gate_new(&fs->gate);
	if (!err)
		err = msnap_fs_lost_new(&fs->lost);
	if (!err)
		err = msnap_fs_flush_new(server->opts.dir, &fs->flush);
	if (!err)
		err = msnap_fs_table_new(&fs->table);
	if (!err)
		err = msnap_fs_scrub_new(fs, &fs->scrub);
	if (!err)
		err = msnap_fs_ctl_new(fs, &fs->ctl);
	if (err)
		msnap_fs_report_failed(&server->report, "cannot start: %s",
				       strerror(-err));
	return err;
}

static void free_parts(struct fs *fs)
{
	msnap_fs_direct_free(fs->direct);
	msnap_fs_ctl_free(fs->ctl);
	msnap_fs_table_free(fs->table);
	msnap_fs_flush_free(fs->flush);
	msnap_fs_lost_free(fs->lost);
	msnap_fs_gate_free(fs->gate);
	msnap_fs_nodes_free(fs->nodes);
}

static int add_arg(struct fuse_args *args, const char *option, const char *value)
{
	char *list = NULL;
	int err = fuse_opt_add_opt(&list, option);

	/* Paths may have commas in them. */
	if (!err && value)
		err = fuse_opt_add_opt_escaped(&list, value);
	if (!err && value) {
		char *comma = strchr(list, ',');

		memmove(comma, comma + 1, strlen(comma));
	}
	if (!err)
		err = fuse_opt_add_arg(args, "-o") ||
		      fuse_opt_add_arg(args, list);
	free(list);
	return err;
}

static int make_args(const struct msnap_fs_opts *opts, struct fuse_args *args)
{
	int err = fuse_opt_add_arg(args, "mount.memsnapfs") ||
		  add_arg(args, "default_permissions,subtype=memsnapfs", NULL) ||
		  add_arg(args, "fsname=", opts->pool);

	if (!err && opts->read_only)
		err = add_arg(args, "ro", NULL);
	if (!err && opts->kernel)
		err = add_arg(args, opts->kernel, NULL);
	if (!err && opts->debug)
		err = fuse_opt_add_arg(args, "-d");
	return err ? -ENOMEM : 0;
}

/* Users mount by way of fusermount3, which says itself what is wrong. */
static int call_mount(struct server *server, char *why, size_t size)
{
	int held = server->opts.debug ? -1 : msnap_fs_log_hold_stderr();
	int res = fuse_session_mount(server->fs.se, server->opts.dir);

	msnap_fs_log_release_stderr(held, why, size);
	return res;
}

static int mount_it(struct server *server)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct fs *fs = &server->fs;
	char why[300] = "";
	int err = make_args(&server->opts, &args);

	errno = 0;
	if (!err) {
		fs->se = fuse_session_new(&args, &msnap_fs_ops,
					  sizeof(msnap_fs_ops), fs);
		err = fs->se ? call_mount(server, why, sizeof(why)) : -EINVAL;
	}
	fuse_opt_free_args(&args);
	server->mounted = !err;
	if (!err)
		msnap_fs_guard_watch(server->opts.dir);
	if (!err && fs->direct)
		err = msnap_fs_pass_prepare(fs);
	if (!err)
		return 0;
	if (!why[0])
		msnap_fs_log_last_libfuse(why, sizeof(why));
	msnap_fs_report_failed(&server->report, "cannot mount on %s: %s",
			       server->opts.dir,
			       why[0] ? why : "the mount was refused");
	return -EIO;
}

/*
 * The first job of a control thread: when it gets an answer from the mount, the
 * mount is ready.
 */
struct first_job {
	struct msnap_fs_job job;
	struct server *server;
};

static void run_first(struct fs *fs, struct msnap_fs_job *job)
{
	struct server *server = ((struct first_job *)job)->server;
	struct stat st;

	if (stat(server->opts.dir, &st) == 0)
		msnap_fs_bdi_tune(st.st_dev);
	if (!settle_mode(server)) {
		msnap_fs_report_failed(&server->report, "mode=direct cannot be: %s",
				       fs->mode_why);
		fuse_session_exit(fs->se);
		return;
	}
	msnap_fs_log(LOG_INFO, "%s mounted on %s, mode %s (%s)",
		     server->opts.pool, server->opts.dir, server->fs.mode,
		     server->fs.mode_why);
	msnap_fs_report_ready(&server->report);
}

static int run_loop(struct server *server)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	long nr = sysconf(_SC_NPROCESSORS_ONLN) * 2;
	int err;

	if (!config)
		return -ENOMEM;
	nr = nr < MIN_THREADS ? MIN_THREADS : nr > MAX_THREADS ? MAX_THREADS : nr;
	fuse_loop_cfg_set_clone_fd(config, 1);
	fuse_loop_cfg_set_max_threads(config, (unsigned)nr);
	fuse_loop_cfg_set_idle_threads(config, (unsigned)nr);
	err = fuse_session_loop_mt(server->fs.se, config);
	fuse_loop_cfg_destroy(config);
	/* Ended by a signal: that is no failure. */
	return err > 0 ? 0 : err;
}

static int serve(struct server *server)
{
	struct fs *fs = &server->fs;
	struct first_job first = { .job.run = run_first, .server = server };
	int err = msnap_fs_ctl_start(fs->ctl);

	if (!err)
		err = msnap_fs_stop_start(fs, server->opts.dir);
	if (!err)
		err = msnap_fs_ctl_submit(fs->ctl, &first.job);
	if (err) {
		msnap_fs_report_failed(&server->report, "cannot start: %s",
				       strerror(-err));
		return err;
	}
	err = run_loop(server);
	if (err)
		msnap_fs_log(LOG_ERR, "the session ended: %s", strerror(-err));
	return err;
}

static void evict_orphan(void *arg, uint64_t ino)
{
	msnap_fs_evict(arg, ino);
}

/* The opposite of starting, whatever of it was done. */
static int finish(struct server *server)
{
	struct fs *fs = &server->fs;
	int err = 0;

	msnap_fs_stop_finish();
	/* The connection goes first: a control thread that waits for the kernel
	 * gets an error. */
	if (server->mounted)
		fuse_session_unmount(fs->se);
	if (fs->ctl)
		msnap_fs_ctl_stop(fs->ctl);
	if (fs->scrub)
		msnap_fs_scrub_stop(fs->scrub);
	msnap_fs_scrub_free(fs->scrub);
	if (fs->nodes && fs->pool)
		msnap_fs_nodes_each_orphan(fs->nodes, evict_orphan, fs);
	if (fs->se)
		fuse_session_destroy(fs->se);
	if (fs->pool && fs->direct)
		err = msnap_fs_direct_finish(fs);
	if (err)
		msnap_fs_log(LOG_ERR, "contents of some files stay in %s.views until "
			     "the next mount: %s", server->opts.pool,
			     strerror(-err));
	if (fs->pool)
		err = msnap_pool_close(fs->pool) ?: err;
	if (err)
		msnap_fs_log(LOG_ERR, "%s: closing failed: %s",
			     server->opts.pool, strerror(-err));
	free_parts(fs);
	return err;
}

/* Pools, kernel and threads need descriptors; not one for each file. */
static void raise_limits(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int run(struct server *server)
{
	int err, end;

	msnap_fs_stop_block();
	raise_limits();
	err = open_pool(server);
	if (!err)
		err = choose_mode(server);
	if (!err) {
		msnap_fs_snapdir_init(&server->fs);
		err = make_parts(server);
	}
	if (!err)
		err = mount_it(server);
	if (!err)
		err = serve(server);
	end = finish(server);
	return err || end ? 1 : 0;
}

int main(int argc, char **argv)
{
	struct server server = { .report.fd = -1 };
	int status;

	switch (msnap_fs_opts_parse(argc, argv, &server.opts)) {
	case MSNAP_FS_PARSED_DONE:
		return 0;
	case MSNAP_FS_PARSED_BAD:
		return 2;
	case MSNAP_FS_PARSED_FAILED:
		return 1;
	case MSNAP_FS_PARSED_OK:
		break;
	}
	server.fs.opts = &server.opts;
	msnap_fs_log_libfuse();
	if (!server.opts.foreground) {
		if (msnap_fs_daemon_fork(&server.report, &status)) {
			msnap_fs_opts_free(&server.opts);
			return status;
		}
		msnap_fs_log_to_syslog();
		if (chdir("/"))
			msnap_fs_log(LOG_WARNING, "cannot change to /: %s",
				     strerror(errno));
	}
	msnap_fs_guard_start(argc, argv);
	status = run(&server);
	msnap_fs_guard_stop();
	msnap_fs_opts_free(&server.opts);
	return status;
}
