#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may do what: nothing that permissions forbid on a file can be done by way of
.snap, of clones or of ioctls.

Root mounts with allow_other; what the user may do is tried in a process of his.
"""

import errno
import fcntl
import os
import stat
import struct
import subprocess
import sys
import traceback

import mountlib
from mountlib import Mount, clone, open_dir, read, rollback, snap

USER = 65534
GROUP = 4321  # the user has it as a supplementary group
SCRUB = 0xC0C04D0A
SCRUB_LIST = 0xE7D04D0B
FILE = 0x80804D09

if os.getuid() != 0:
    print("skipped: only root can mount for others")
    sys.exit(77)


def as_user(action, *args, uid=USER, groups=(GROUP,)):
    """Errno of what action does in a process of the user, 0 when it succeeds."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            os.setgroups(list(groups))
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            action(*args)
            code = 0
        except OSError as err:
            code = err.errno
        except BaseException:
            traceback.print_exc()
            code = 250
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def expect(what, want, action, *args, **how):
    got = as_user(action, *args, **how)
    names = [errno.errorcode.get(code, "success" if not code else str(code))
             for code in (*want, got)]
    if got not in want:
        sys.exit("FAILED: %s: %s, not %s" % (what, names[-1], names[:-1]))
    print("ok: %s: %s" % (what, names[-1]))


def denied(what, action, *args, **how):
    expect(what, (errno.EACCES, errno.EPERM), action, *args, **how)


def allowed(what, action, *args, **how):
    expect(what, (0,), action, *args, **how)


def must(what, condition):
    if not condition:
        sys.exit("FAILED: " + what)
    print("ok: " + what)


def write(path, data, mode=0o644, owner=0):
    with open(path, "wb") as file:
        file.write(data)
    os.chown(path, owner, owner)
    os.chmod(path, mode)


def make_dir(path, mode, owner=0, group=None):
    os.mkdir(path)
    os.chown(path, owner, owner if group is None else group)
    os.chmod(path, mode)


def ioctl(path, number, arg, flags=os.O_RDONLY):
    fd = os.open(path, flags)
    try:
        fcntl.ioctl(fd, number, arg)
    finally:
        os.close(fd)


def snap_delete(path, name):
    ioctl(path, mountlib.SNAP_DELETE, struct.pack("208s16x", name.encode()))


def snap_rename(path, name, new):
    ioctl(path, mountlib.SNAP_RENAME,
          struct.pack("208s208s16x", name.encode(), new.encode()))


def clone_write_only(src, dst):
    """A clone through a descriptor that is not open for reading."""
    ref = bytearray(16)
    fd = open_dir(os.path.dirname(dst))
    fcntl.ioctl(fd, mountlib.REF, ref)
    arg = bytearray(struct.pack("16s256sQI20x", bytes(ref),
                                os.path.basename(dst).encode(), 0, 0))
    src_fd = os.open(src, os.O_WRONLY)
    fcntl.ioctl(src_fd, mountlib.CLONE, arg)


def clone_forged(src, name):
    """A clone into a directory that the user never had open."""
    arg = bytearray(struct.pack("16s256sQI20x", os.urandom(16), name.encode(), 0,
                                0))
    fd = os.open(src, os.O_RDONLY)
    fcntl.ioctl(fd, mountlib.CLONE, arg)


def copy_range(src, dst):
    src_fd = os.open(src, os.O_RDONLY)
    dst_fd = os.open(dst, os.O_WRONLY)
    os.copy_file_range(src_fd, dst_fd, 4096)


def scrub(path, op):
    ioctl(path, SCRUB, bytearray(struct.pack("I188x", op)))


def make_world(top):
    os.chmod(top, 0o755)
    write(top + "/secret", b"secret", 0o600)
    write(top + "/open", b"for all", 0o644)
    write(top + "/drop", b"write only", 0o622)
    write(top + "/tool", b"#!/bin/true", 0o4755)
    make_dir(top + "/private", 0o700)
    write(top + "/private/inner", b"inner", 0o644)
    make_dir(top + "/mixed", 0o755)
    write(top + "/mixed/shown", b"shown", 0o644)
    write(top + "/mixed/hidden", b"hidden", 0o600)
    make_dir(top + "/his", 0o755, USER)
    write(top + "/his/own", b"own", 0o600, USER)
    write(top + "/his/roots", b"roots", 0o600)
    make_dir(top + "/team", 0o2770, 0, GROUP)
    write(top + "/team/file", b"team", 0o640)
    os.chown(top + "/team/file", 0, GROUP)
    make_dir(top + "/sticky", 0o1777)
    write(top + "/sticky/roots", b"roots", 0o644)
    write(top + "/sticky/own", b"own", 0o644, USER)
    make_dir(top + "/search", 0o711)
    write(top + "/search/known", b"known", 0o644)


def test_reading(top):
    snap(top, "rp")
    # What was forbidden then is forbidden, however it is now.
    os.chmod(top + "/private", 0o755)
    os.chmod(top + "/mixed/hidden", 0o644)
    rp = top + "/.snap/rp"
    denied("a file", read, top + "/secret")
    denied("the same in .snap", read, rp + "/secret")
    denied("a closed directory in .snap", os.listdir, rp + "/private")
    denied("a file below it", read, rp + "/private/inner")
    denied("the same by the directory's own .snap", read,
           top + "/private/.snap/rp/inner")
    denied("a file that was closed", read, rp + "/mixed/hidden")
    denied("searching only: .snap", os.listdir, top + "/search/.snap")
    denied("searching only: in .snap", os.listdir, rp + "/search")
    allowed("a known name there", read, rp + "/search/known")
    allowed("a file for all", read, rp + "/open")
    allowed("a file of the group", read, rp + "/team/file")
    denied("not without the group", read, rp + "/team/file", groups=())
    allowed("his own", read, rp + "/his/own")
    denied("root's in his directory", read, rp + "/his/roots")
    expect("writing in .snap", (errno.EROFS,), os.open, rp + "/his/own", os.O_RDWR)
    expect("a name in .snap", (errno.EROFS,), os.mkdir, rp + "/his/new")
    os.chmod(top + "/private", 0o700)
    denied(".snap of a closed directory", os.listdir, top + "/private/.snap")
    os.chmod(top + "/mixed/hidden", 0o600)
    os.rmdir(rp)


def test_clones(top):
    his = top + "/his/"
    snap(top, "rp")
    rp = top + "/.snap/rp"
    denied("clone of a file", clone, top + "/secret", his + "c1")
    denied("clone of a file in .snap", clone, rp + "/secret", his + "c1")
    denied("clone of a directory", clone, top + "/private", his + "c1",
           mountlib.RECURSIVE)
    denied("clone of a directory with a closed file", clone, top + "/mixed",
           his + "c1", mountlib.RECURSIVE)
    denied("the same in .snap", clone, rp + "/mixed", his + "c1",
           mountlib.RECURSIVE)
    expect("clone of a file that is open for writing only", (errno.EBADF,
           errno.EACCES), clone_write_only, top + "/drop", his + "c1")
    expect("clone to a place never opened", (errno.ESTALE, errno.EBADF, errno.ENOENT,
           errno.EINVAL, errno.EACCES), clone_forged, top + "/open", "c1")
    denied("copy_file_range", copy_range, top + "/secret", his + "own")
    denied("clone into root's directory", clone, top + "/open", top + "/mixed/c1")
    expect("clone into .snap", (errno.EROFS,), clone, top + "/open", rp + "/his/c1")
    denied("clone over root's file in a sticky directory", clone, top + "/open",
           top + "/sticky/roots", mountlib.REPLACE)
    must("nothing was made", not os.path.lexists(his + "c1") and
         not os.path.lexists(top + "/mixed/c1") and
         read(top + "/sticky/roots") == b"roots")
    allowed("clone of a file for all", clone, top + "/open", his + "c2")
    st = os.stat(his + "c2")
    must("is his", (st.st_uid, st.st_gid) == (USER, USER))
    allowed("clone of a setuid program", clone, top + "/tool", his + "c3")
    st = os.stat(his + "c3")
    must("is no setuid program of root's", st.st_uid == USER and
         not st.st_mode & (stat.S_ISUID | stat.S_ISGID))
    allowed("clone in a sticky directory", clone, top + "/open", top + "/sticky/c4")
    allowed("clone over his own there", clone, top + "/open", top + "/sticky/own",
            mountlib.REPLACE)
    allowed("clone in a setgid directory", clone, top + "/open", top + "/team/c5")
    must("has the directory's group", os.stat(top + "/team/c5").st_gid == GROUP)
    os.rmdir(rp)


def test_restore_points(top):
    snap(top, "roots")
    snap(top + "/his", "given")
    snap(top + "/mixed", "closed")
    snap(top, "closed-file", file="open")
    for name in ("/", "/mixed", "/search"):
        denied("taking one of " + name, snap, top + name, "mine")
        denied("mkdir in .snap of " + name, os.mkdir, top + name + "/.snap/mine")
    denied("one of a file", snap, top, "mine", "open")
    denied("deleting one", snap_delete, top, "roots")
    denied("renaming one", snap_rename, top, "roots", "mine")
    denied("rolling back", rollback, top, "roots")
    denied("rolling back a file", rollback, top, "roots", "open")
    denied("rolling back a directory", rollback, top + "/mixed", "closed")
    denied("rmdir in .snap", os.rmdir, top + "/.snap/roots")
    denied("mv in .snap", os.rename, top + "/.snap/roots", top + "/.snap/mine")
    # What was taken of a directory above is not his, though it shows in his.
    denied("deleting root's from his directory", snap_delete, top + "/his", "roots")
    denied("renaming it from there", snap_rename, top + "/his", "roots", "mine")
    denied("rmdir of it there", os.rmdir, top + "/his/.snap/roots")
    must("they are all there", {"roots", "closed-file"} <=
         set(os.listdir(top + "/.snap")))
    allowed("one of his own directory", snap, top + "/his", "mine")
    denied("shows root's file to nobody", read, top + "/his/.snap/mine/roots")
    allowed("renaming it", snap_rename, top + "/his", "mine", "mine2")
    allowed("deleting it", snap_delete, top + "/his", "mine2")
    allowed("one in a directory of the group", snap, top + "/team", "team")
    denied("not without the group", snap_delete, top + "/team", "team", groups=())
    allowed("deleting one of his directory that root took", snap_delete,
            top + "/his", "given")
    allowed("mkdir in .snap of his", os.mkdir, top + "/his/.snap/dir")
    write(top + "/his/own", b"changed", 0o600, USER)
    allowed("rolling back his own file", rollback, top + "/his", "dir", "own")
    must("it is what it was", read(top + "/his/own") == b"own")
    allowed("rmdir of it", os.rmdir, top + "/his/.snap/dir")
    snap(top + "/sticky", "st")
    denied("rolling back root's file in a sticky directory", rollback,
           top + "/sticky", "st", "roots")
    allowed("his own there", rollback, top + "/sticky", "st", "own")
    os.mkdir(top + "/his/deep")
    os.chmod(top + "/his/deep", 0o755)
    write(top + "/his/deep/file", b"deep", 0o644)
    snap(top + "/his", "deep")
    denied("rolling back a directory with one of root's in it", rollback,
           top + "/his", "deep")
    write(top + "/his/su", b"v1", 0o4755)
    allowed("a restore point of root's program in his directory", snap,
            top + "/his", "su")
    os.chmod(top + "/his/su", 0o755)
    denied("rolling it back", rollback, top + "/his", "su", "su")
    os.remove(top + "/his/su")
    denied("bringing it back", rollback, top + "/his", "su", "su")
    os.mkdir(top + "/sys")
    os.chmod(top + "/sys", 0o755)
    write(top + "/sys/conf", b"old")
    os.link(top + "/sys/conf", top + "/his/conf")
    allowed("a restore point of root's file by another name", snap,
            top + "/his", "conf")
    write(top + "/sys/conf", b"new")
    denied("rolling that back", rollback, top + "/his", "conf", "conf")
    must("it is as it was", read(top + "/sys/conf") == b"new")


def test_scrub(top):
    for op, what in ((1, "starting"), (2, "cancelling")):
        denied(what + " a scrub", scrub, top, op)
    denied("its list of paths", ioctl, top, SCRUB_LIST, bytearray(10192))
    allowed("its status", scrub, top, 0)
    scrub(top, 1)
    denied("the extents of a closed file", ioctl, top + "/secret", FILE,
           bytearray(128))


def test_pool_file(m):
    must("the pool is for its owner only",
         stat.S_IMODE(os.stat(m.pool).st_mode) == 0o600)
    denied("reading it", read, m.pool)
    if os.path.isdir(m.pool + ".views"):
        denied("the files beside it", os.listdir, m.pool + ".views")
    old = os.umask(0)
    other = m.top + "/other"
    subprocess.run(["mkfs.memsnapfs", "-s", "16M", other], check=True,
                   stdout=subprocess.DEVNULL)
    os.umask(old)
    must("whatever the umask", stat.S_IMODE(os.stat(other).st_mode) == 0o600)
    os.remove(other)


def options_of(dir):
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        return [line.split()[3].split(",") for line in mounts
                if line.split()[1] == dir][-1]


def test_others_stay_out():
    with Mount(size="64M") as m:
        os.chmod(m.top, 0o755)
        os.chmod(m.dir, 0o777)
        must("allow_other is off", "allow_other" not in options_of(m.dir))
        must("default_permissions is on", "default_permissions" in
             options_of(m.dir))
        denied("others stay out", os.listdir, m.dir)
        denied("of .snap, too", os.listdir, m.dir + "/.snap")


def main():
    if "MSNAP_TMP" in os.environ:
        os.chmod(os.environ["MSNAP_TMP"], 0o755)
    with Mount(size="128M", options=["-o", "allow_other"]) as m:
        os.chmod(m.top, 0o755)
        must("allow_other is on", "allow_other" in options_of(m.dir))
        make_world(m.dir)
        test_reading(m.dir)
        test_clones(m.dir)
        test_restore_points(m.dir)
        test_scrub(m.dir)
        test_pool_file(m)
    test_others_stay_out()


main()
