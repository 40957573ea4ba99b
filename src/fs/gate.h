/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gate.h - what becomes of late write-backs while a rollback goes on.
 *
 * A store through a mapping reaches us when the kernel writes the page back.  The
 * pages that were dirty when a rollback was asked for are written back before it.
 * Pages that are dirtied between that and the end of the rollback hold a mixture
 * of the old contents and of stores that raced with the call; such stores count
 * as made before it, so what the rollback changed must not be overwritten by
 * them.
 *
 * What it is: a door that every WRITE of mapped pages passes.  It is shut while
 * the engine switches contents (the control thread in there waits for nothing of
 * the kernel's, so the workers that wait at the door do not wait for long).  From
 * then on until the kernel has dropped its pages of an inode, WRITEs to it are
 * acknowledged and thrown away.  WRITEs of write(2) do not pass it: each is made
 * wholly before or wholly after the switch, like any other call.
 *
 * Locking: its own.  One rollback at a time: begin and finish enclose a mutex.
 */
#ifndef MSNAP_FS_GATE_H
#define MSNAP_FS_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct msnap_fs_gate;

int msnap_fs_gate_new(struct msnap_fs_gate **gate); /* -ENOMEM */
void msnap_fs_gate_free(struct msnap_fs_gate *gate); /* NULL is fine */

/*
 * A WRITE of mapped pages to @ino arrives.  True: make it, then leave.  False:
 * throw it away, do not leave.
 */
bool msnap_fs_gate_enter(struct msnap_fs_gate *gate, uint64_t ino);
void msnap_fs_gate_leave(struct msnap_fs_gate *gate);

/* Shut the door, wait until all have left. */
void msnap_fs_gate_begin(struct msnap_fs_gate *gate);

/*
 * The engine has changed the inodes in @ino (ascending, each once; not copied, it
 * must stay until finish): open the door again, but not for them.
 */
void msnap_fs_gate_switched(struct msnap_fs_gate *gate, const uint64_t *ino,
			    size_t nr);

/*
 * The kernel has dropped its pages of the inode that is ino[i]: let WRITEs to it
 * pass again.  True: some were thrown away meanwhile, of pages that the kernel now
 * thinks are written; it must drop them once more.
 */
bool msnap_fs_gate_release(struct msnap_fs_gate *gate, size_t i);

/* The rollback is over; the next may begin. */
void msnap_fs_gate_finish(struct msnap_fs_gate *gate);

#endif
