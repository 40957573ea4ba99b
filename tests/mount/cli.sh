#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# cli.sh - the command-line tools, as a user types them: results, messages and
# exit statuses.
. "$(dirname "$0")/lib.sh"

# exits STATUS TEXT WORDS COMMAND...: it must end with STATUS, print nothing but
# WORDS somewhere on the standard error: in one line, or two for wrong usage.
exits()
{
	local want=$1 text=$2 words=$3 out status
	shift 3
	out=$("$@" 2>&1)
	status=$?
	[ "$status" = "$want" ] ||
		fail "$text: $* ended with $status, not $want: $out"
	case $out in
	*"$words"*) ;;
	*) fail "$text: expected \"$words\", got: $out" ;;
	esac
	[ "$(wc -l <<<"$out")" = "$([ "$want" = 2 ] && echo 2 || echo 1)" ] ||
		fail "$text: not one line: $out"
	ok "$text"
}

json()
{
	"$PYTHON" -c "import json, sys; d = json.load(sys.stdin); print($1)"
}

long=$(printf 'n%.0s' {1..201})

# ---- called in every way: no mount is needed -------------------------------

for verb in snap list delete rename clone rollback info; do
	same "$verb --version" "msnapfs $verb (memsnapfs)" \
		"$(msnapfs $verb --version | sed 's/ [0-9][^ ]*$//')"
	check "$verb --help" grep -q "^Usage: msnapfs $verb " \
		<(msnapfs $verb --help)
	same "help $verb" "$(msnapfs $verb --help)" "$(msnapfs help $verb)"
	exits 2 "$verb: unknown option" "Try 'msnapfs $verb --help'" \
		msnapfs $verb --no-such-option
	check "the overview tells of $verb" grep -q "^  $verb " \
		<(msnapfs --help)
	ln -s "$(command -v msnapfs)" msnapfs-$verb
	same "msnapfs-$verb" "$(msnapfs $verb -h)" "$(./msnapfs-$verb -h)"
done
exits 2 "no verb" "a verb is needed" msnapfs
exits 2 "unknown verb" "nonsense: no such verb" msnapfs nonsense
exits 2 "help for an unknown verb" "nonsense: no such verb" \
	msnapfs help nonsense
same "mkfs --version" "mkfs.memsnapfs" "$(mkfs.memsnapfs -V | cut -d' ' -f1)"
check "mkfs --help" grep -q "^Usage: mkfs.memsnapfs " <<<"$(mkfs.memsnapfs --help)"
if [ -c /dev/full ]; then
	exits 1 "output that cannot be written" "cannot write the output" \
		sh -c 'msnapfs --help >/dev/full'
fi

mkdir plain
echo text >plain/file
for verb in "snap plain" "list plain" "delete plain@x" "rename plain@x y" \
	"clone plain/file plain/new" "rollback plain@x" "info plain"; do
	# shellcheck disable=SC2086 # words on purpose
	exits 1 "elsewhere: $verb" "not on a memsnapfs mount" msnapfs $verb
done
exits 2 "snap without a path" "no PATH given" msnapfs snap
exits 2 "snap -n with a slash" "nor have a '/'" msnapfs snap -n a/b plain
exits 2 "snap -n too long" "too long: 201 bytes, at most 200" \
	msnapfs snap -n "$long" plain
exits 2 "snap -n empty" "name is empty" msnapfs snap -n "" plain
exits 2 "snap -m too long" "the comment is too long" \
	msnapfs snap -m "$long$long$long" plain
exits 1 "snap of what is not there" "plain/none: No such file" \
	msnapfs snap plain/none
exits 2 "list: unknown column" "-o: no column 'WHAT'; there are NAME, " \
	msnapfs list -o name,WHAT plain
exits 2 "list: unknown column to sort by" "-s: no column 'what'" \
	msnapfs list -s what plain
exits 2 "delete without @" "plain: names no restore point; write PATH@NAME" \
	msnapfs delete plain
exits 2 "delete with an empty name" "name is empty" msnapfs delete plain@
exits 2 "rollback without @" "names no restore point" msnapfs rollback plain
exits 2 "rename without a new name" "a new name are needed" \
	msnapfs rename plain@x
exits 2 "rename to a bad name" "a/b: a restore point's name cannot" \
	msnapfs rename plain@x a/b
exits 2 "clone without a target" "a source and a target" \
	msnapfs clone plain/file
exits 1 "clone of a device" "neither a regular file nor a directory" \
	msnapfs clone /dev/null plain/x
exits 1 "clone of nothing" "none: No such file" msnapfs clone none plain/x

# ---- mkfs ------------------------------------------------------------------

exits 2 "mkfs without a pool" "no POOL given" mkfs.memsnapfs
exits 2 "mkfs of two" "only one POOL" mkfs.memsnapfs a b
exits 2 "mkfs of a new file without -s" "-s SIZE" mkfs.memsnapfs new
[ ! -e new ] || fail "mkfs left a file behind"
for size in x 10X -5 1.5 G 1Gb ""; do
	exits 2 "mkfs -s '$size'" "not a size" mkfs.memsnapfs -s "$size" new
done
exits 2 "mkfs -s too large" "too large" mkfs.memsnapfs -s 99999999999T new
exits 2 "mkfs -s 0" "cannot be empty" mkfs.memsnapfs -s 0 new
exits 2 "mkfs -L too long" "at most 63" mkfs.memsnapfs -L "$long" -s 1G new
check "mkfs -s 1.5G" grep -q "1.5G, labelled 'my data'; mount it with" \
	<(mkfs.memsnapfs -L 'my data' -s 1.5G new)
same "its size" $((3 << 29)) "$(stat -c %s new)"
exits 1 "mkfs over a pool" "new: " mkfs.memsnapfs new
same "mkfs -q" "" "$(mkfs.memsnapfs -q -f new)"
same "a forced one keeps the size" $((3 << 29)) "$(stat -c %s new)"
exits 1 "mkfs too small" "tiny: " mkfs.memsnapfs -s 1M tiny
exits 1 "mkfs on a directory" "plain: " mkfs.memsnapfs -s 1G plain
exits 1 "mkfs in no directory" "none/pool" mkfs.memsnapfs -s 1G none/pool
rm -f new tiny

# ---- on a mount ------------------------------------------------------------

make_pool 256M
mount_pool
exits 1 "mkfs of a mounted pool" "$P: " mkfs.memsnapfs -f "$P"

mkdir "$M/data" "$M/data/sub" "$M/other"
echo one >"$M/data/file"
echo other >"$M/other/file"
head -c 8M /dev/urandom >"$M/data/big"
cd "$M" || exit 99

same "list of nothing" "data: no restore points" "$(msnapfs list data 2>&1)"
same "list -H of nothing" "" "$(msnapfs list -H data 2>&1)"
same "list --json of nothing" "[]" \
	"$(msnapfs list --json data | json 'd["restorepoints"]')"
same "snap prints the name" good "$(msnapfs snap -n good -m 'a	b' data)"
exits 1 "snap of a name in use" "data: the name 'good' is in use" \
	msnapfs snap -n good data
exits 1 "snap of a name in use above" "the name 'good' is in use" \
	msnapfs snap -n good data/sub
name=$(msnapfs snap data)
check "a name made of the time" grep -Eqx '[0-9]{8}T[0-9]{6}[+-][0-9]{4}' \
	<<<"$name"
same "snap of a file" onefile "$(msnapfs snap data/file -n onefile)"
same "snap of several" several \
	"$(msnapfs snap -n several data/file other/file)"
same "it shows in one directory" one "$(cat data/.snap/several/file)"
same "and in the other" other "$(cat other/.snap/several/file)"
exits 1 "snap across filesystems" "not on the same mount" \
	msnapfs snap data "$MSNAP_TMP/plain"
exits 1 "snap inside .snap" "read-only" msnapfs snap data/.snap/good

same "list" "good $name onefile several" \
	"$(msnapfs list -H -o name data | paste -sd' ')"
same "list -r" "several onefile $name good" \
	"$(msnapfs list -rH -o NAME data | paste -sd' ')"
same "list of a file" "good $name onefile several" \
	"$(msnapfs list -H -o name data/file | paste -sd' ')"
same "list of a file in fewer" "good $name" \
	"$(msnapfs list -H -o name data/big | paste -sd' ')"
same "list of the current directory" "several" \
	"$(cd other && msnapfs list -H -o name)"
same "list -s" "$(printf '%s\n' good "$name" onefile several | LC_ALL=C sort)" \
	"$(msnapfs list -H -o name -s name data)"
same "list -H has tabs" "good	dir	a\\x09b	0" \
	"$(msnapfs list -H -o name,type,comment,holds data | head -n 1)"
same "list shows the directory" "$M/data" \
	"$(msnapfs list -H -o scope data/sub | head -n 1)"
check "list -p has seconds" grep -Eqx '[0-9]{10}	[0-9]+' \
	<<<"$(msnapfs list -Hp -o created,user data | head -n 1)"
check "list has a heading" grep -Eq '^NAME +CREATED +TYPE +INODES +COMMENT' \
	<(msnapfs list data)
same "list --json" "good dir 0 a	b" "$(msnapfs list --json data | json \
	'"{name} {type} {holds} {comment}".format(**d["restorepoints"][0])')"
exits 1 "list of what never was" "neither is there such a file" \
	msnapfs list data/never
cd data || exit 99
same "@NAME is of the current directory" renamed "$(msnapfs rename @onefile \
	renamed && msnapfs list -H -o name file | grep renamed)"
cd ..
exits 1 "rename to a name in use" "the name 'good' is in use" \
	msnapfs rename data@renamed good
exits 1 "rename of none" \
	"data@none: no such restore point; 'msnapfs list data' shows" \
	msnapfs rename data@none new
check "rename back" msnapfs rename data/file@renamed onefile

# ---- clone -----------------------------------------------------------------

check "clone" msnapfs clone data/big clone
check "clone: same contents" cmp data/big clone
[ "$(stat -c %i data/big)" != "$(stat -c %i clone)" ] || fail "the same inode"
exits 1 "clone onto a file" "clone: 'clone' exists; -f replaces a file" \
	msnapfs clone data/file clone
check "clone -f" msnapfs clone -f data/file clone
same "clone -f: contents" one "$(cat clone)"
check "clone into a directory" msnapfs clone data/big other
check "clone into it: contents" cmp data/big other/big
exits 1 "clone of a directory without -r" "data: is a directory; clone it with -r" \
	msnapfs clone data copy
check "clone -r" msnapfs clone -r data copy
check "clone -r: contents" diff -r data copy
check "clone -r into" msnapfs clone -r data/ copy/
check "clone -r into: contents" diff -r data copy/data
exits 1 "clone -r onto a file" "replaces only a file by a file" \
	msnapfs clone -rf data clone
mkdir copy/clone
exits 1 "clone onto a directory" "replaces only a file by a file" \
	msnapfs clone -f clone copy
exits 1 "clone into where it is" "is clone itself" msnapfs clone -f clone .
exits 1 "clone onto itself" "is data/file itself" \
	msnapfs clone -f data/file data/file
exits 1 "clone to elsewhere" "not on the same mount" \
	msnapfs clone data/file "$MSNAP_TMP/plain"
exits 1 "clone into .snap" "read-only" msnapfs clone data/file data/.snap/good/x
exits 1 "clone into no directory" "No such file" msnapfs clone clone none/x
rm -r clone copy other/big

echo two >data/file
check "clone from .snap" msnapfs clone data/.snap/good/file old
same "clone from .snap: contents" one "$(cat old)"
check "clone of PATH@NAME" msnapfs clone data/file@good old2
same "clone of PATH@NAME: contents" one "$(cat old2)"
exits 1 "clone of no restore point" \
	"data/file@none: no such restore point; 'msnapfs list data/file'" \
	msnapfs clone data/file@none old3
check "clone -r of DIR@NAME" msnapfs clone -r data@good olddir
same "clone -r of DIR@NAME: contents" one "$(cat olddir/file)"
check "clone -r of DIR@NAME into" msnapfs clone -r data@good other
same "clone -r of DIR@NAME into: contents" one "$(cat other/data/file)"
echo at >"file@good"
check "a file whose name has an @" msnapfs clone file@good at
same "a file whose name has an @: contents" at "$(cat at)"
msnapfs snap -n atsnap file@good >/dev/null
same "its restore points" atsnap "$(msnapfs list -H -o name file@good)"
check "its rollback" msnapfs rollback -n file@good@atsnap
rm -r old old2 olddir other/data at "file@good"

# ---- rollback --------------------------------------------------------------

out=$(msnapfs rollback data/file@good) || fail "rollback"
same "rollback" one "$(cat data/file)"
undo=${out#*; undo with: }
same "rollback says so" "rolled back data/file to good; undo with: $undo" "$out"
check "rollback: undo" sh -c "$undo"
same "rollback: undone" two "$(cat data/file)"
same "rollback -n" "rolled back data/file to onefile" \
	"$(msnapfs rollback -n data/file@onefile)"
same "rollback -n: contents" one "$(cat data/file)"
rm data/file
check "rollback of a deleted file" msnapfs rollback data/file@good
same "rollback of a deleted file: contents" one "$(cat data/file)"
echo two >data/file
echo new >data/new
check "rollback of a directory" msnapfs rollback data@good
same "rollback of a directory: contents" one "$(cat data/file)"
[ ! -e data/new ] || fail "rollback left a new file"
mkdir 'odd name'
msnapfs snap -n s 'odd name' >/dev/null
check "a command to copy has quotes" grep -q "rollback 'odd name'@" \
	<(msnapfs rollback 'odd name@s')
exits 1 "rollback to nothing" \
	"data@bad: no such restore point; 'msnapfs list data' shows those" \
	msnapfs rollback data@bad
exits 1 "rollback of what it does not hold" \
	"data/big@onefile: the restore point 'onefile' does not hold this file" \
	msnapfs rollback data/big@onefile

# ---- info ------------------------------------------------------------------

same "info --json" "$P $M $(expected_mode) 268435456 False" "$(msnapfs info --json . | json \
	'" ".join(map(str, [d[k] for k in ("pool", "mount", "mode", "size", "read_only")]))')"
check "info" grep -Eq '^Size: +256M$' <<<"$(msnapfs info)"
check "info -p" grep -Eq '^Size: +268435456$' <<<"$(msnapfs info -p data)"
msnapfs delete data@good "data@$name" other@several >/dev/null || fail "delete"
for point in $(msnapfs list -H -o name data); do
	msnapfs delete "data@$point" || fail "delete $point"
done
echo three >data/file
sync data/big
size() { msnapfs info --json "$1" | json "d[\"$2\"]"; }
same "info of a file" 8388608 "$(size data/big file_size)"
same "its space" 8388608 "$(size data/big file_allocated)"
same "its own space" 8388608 "$(size data/big file_exclusive)"
msnapfs clone data/big data/clone || fail "clone"
same "its own space, once cloned" 0 "$(size data/big file_exclusive)"
check "info of a file says File" grep -Eq '^File: +data/big$' \
	<(msnapfs info data/big)
exits 1 "info of nothing" "none: No such file" msnapfs info none

# ---- delete ----------------------------------------------------------------

for point in a b c; do msnapfs snap -n $point data >/dev/null; done
out=$(msnapfs delete data@a data@none data/file@b data@gone 2>&1) &&
	fail "delete of one that is not there succeeded"
same "delete names every failure" "none gone" "$(sed -n \
	"s/^msnapfs delete: data@\([a-z]*\): no such restore point; .*/\1/p" \
	<<<"$out" | paste -sd' ')"
same "delete goes on" c "$(msnapfs list -H -o name data)"
exits 2 "delete with a mistake" "data: names no" msnapfs delete data@c data
same "it has deleted nothing" c "$(msnapfs list -H -o name data)"
msnapfs snap -n pair data/file other/file >/dev/null
check "delete of one by two names" msnapfs delete data@pair other@pair
check "delete of one twice" msnapfs delete data@c data@c
same "all are gone" "" "$(msnapfs list -H data)"

# ---- a name that needs the table's care, and a read-only mount --------------

msnapfs snap -n 'ein Näme "quoted"' data >/dev/null || fail "odd name"
same "list of an odd name" 'ein Näme "quoted"' "$(msnapfs list --json data |
	PYTHONIOENCODING=utf-8 json 'd["restorepoints"][0]["name"]')"
cd "$MSNAP_TMP" || exit 99
unmount_pool
mount_pool -o ro
exits 1 "snap, read-only" "read-only" msnapfs snap "$M/data"
exits 1 "rollback, read-only" "read-only" \
	msnapfs rollback "$M/data@ein Näme \"quoted\""
check "info, read-only" grep -Eq '^Read-only: +yes$' <<<"$(msnapfs info "$M")"
unmount_pool
