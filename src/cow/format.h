/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * format.h - the structures that memsnapfs keeps in a pool, and nothing else.
 *
 * docs/FORMAT.md tells the story; this header is its letter.  Every number on
 * media is little-endian and wrapped in a struct, so that it cannot be used as
 * a plain integer by mistake.  Reserved bytes are zero and are checked.
 *
 * Layout of a pool of N blocks of 4 KiB:
 *
 *   block 0             superblock, written once by mkfs
 *   blocks 1..16        root ring: the record of generation G is in
 *                       block 1 + G % 16
 *   blocks 17..N-2      tree nodes, file data, saved space map
 *   block N-1           backup of the superblock
 */
#ifndef MSNAP_COW_FORMAT_H
#define MSNAP_COW_FORMAT_H

#include <assert.h>
#include <endian.h>
#include <stddef.h>
#include <stdint.h>

#define MSNAP_BLOCK_SHIFT 12
#define MSNAP_BLOCK_SIZE (1u << MSNAP_BLOCK_SHIFT)

#define MSNAP_SUPER_BLK 0
#define MSNAP_RING_BLK 1
#define MSNAP_RING_SLOTS 16
#define MSNAP_FIRST_BLK (MSNAP_RING_BLK + MSNAP_RING_SLOTS)

/* Smallest and largest pool, in blocks: 4 MiB, 1 PiB. */
#define MSNAP_MIN_BLOCKS 1024ull
#define MSNAP_MAX_BLOCKS (1ull << 38)

#define MSNAP_SUPER_MAGIC 0x5346504e5353454dull /* "MESSNPFS" */
#define MSNAP_ROOT_MAGIC 0x544f4f52504e534dull	/* "MSNPROOT" */
#define MSNAP_NODE_MAGIC 0x444f4e4du		/* "MNOD" */
#define MSNAP_SPACE_MAGIC 0x4341505350414e53ull /* "SNAPSPAC" */

#define MSNAP_FORMAT_VERSION 1

/*
 * Feature words, with the meaning ext4 gives them: an unknown compat bit is
 * harmless, an unknown ro_compat bit allows reading only, an unknown incompat
 * bit forbids opening the pool.
 */
#define MSNAP_COMPAT_KNOWN 0ull
#define MSNAP_RO_COMPAT_KNOWN 0ull
#define MSNAP_INCOMPAT_KNOWN 0ull

typedef struct {
	uint16_t le;
} __attribute__((packed)) msnap_le16;
typedef struct {
	uint32_t le;
} __attribute__((packed)) msnap_le32;
typedef struct {
	uint64_t le;
} __attribute__((packed)) msnap_le64;

static inline uint16_t get16(msnap_le16 x) { return le16toh(x.le); }
static inline uint32_t get32(msnap_le32 x) { return le32toh(x.le); }
static inline uint64_t get64(msnap_le64 x) { return le64toh(x.le); }
static inline msnap_le16 put16(uint16_t x) { return (msnap_le16){ htole16(x) }; }
static inline msnap_le32 put32(uint32_t x) { return (msnap_le32){ htole32(x) }; }
static inline msnap_le64 put64(uint64_t x) { return (msnap_le64){ htole64(x) }; }

/* Blocks 0 and N-1.  csum: XXH3-64, seed 0, over bytes 8..4095 of the block. */
struct msnap_super {
	msnap_le64 csum;
	msnap_le64 magic;
	msnap_le32 version;
	msnap_le32 block_size;
	msnap_le64 nr_blocks;
	msnap_le64 compat;
	msnap_le64 ro_compat;
	msnap_le64 incompat;
	uint8_t uuid[16];
	char label[64]; /* NUL-padded, at most 63 bytes */
	msnap_le64 ctime; /* seconds since the epoch */
	msnap_le64 hash_seed; /* of names in directories and of xattr names */
	uint8_t reserved[4096 - 152];
} __attribute__((packed));
static_assert(sizeof(struct msnap_super) == MSNAP_BLOCK_SIZE, "super size");
static_assert(offsetof(struct msnap_super, uuid) == 56, "super uuid");
static_assert(offsetof(struct msnap_super, label) == 72, "super label");
static_assert(offsetof(struct msnap_super, hash_seed) == 144, "super seed");

/*
 * A pointer to a tree node: its block and the generation that wrote it.  A node
 * whose own generation differs is a lost or misdirected write.  blk 0: no tree.
 */
struct msnap_ref {
	msnap_le64 blk;
	msnap_le64 gen;
} __attribute__((packed));
static_assert(sizeof(struct msnap_ref) == 16, "ref size");

/*
 * Root record: the whole state of the pool in one block.  The valid record with
 * the highest generation is the pool.  csum: XXH3-64, seed 0, over bytes
 * 8..4095.  The checksum makes the write atomic: a torn record is no record.
 */
#define MSNAP_ROOT_CLEAN 1u /* space map saved: space_* are valid */
#define MSNAP_MAX_GEN (1ull << 62) /* no counting past the end */

struct msnap_root {
	msnap_le64 csum;
	msnap_le64 magic;
	msnap_le64 gen;
	uint8_t uuid[16];
	msnap_le64 time_ns; /* of the commit, since the epoch */
	msnap_le32 flags;
	msnap_le32 reserved0;
	struct msnap_ref ns;	  /* live namespace tree */
	struct msnap_ref catalog; /* snapshots, orphans, views */
	msnap_le64 next_ino;
	msnap_le64 next_snap;
	msnap_le64 nr_inodes; /* in the live namespace */
	msnap_le64 space_blk; /* first block of the saved space map */
	msnap_le64 space_nr;  /* its number of blocks */
	uint8_t reserved[4096 - 128];
} __attribute__((packed));
static_assert(sizeof(struct msnap_root) == MSNAP_BLOCK_SIZE, "root size");
static_assert(offsetof(struct msnap_root, ns) == 56, "root ns");
static_assert(offsetof(struct msnap_root, space_nr) == 120, "root space");

/*
 * Saved space map, written at a clean unmount: a chain of blocks, each holding
 * runs of blocks whose count is not zero, in ascending order over the chain.
 * The chain's own blocks are not in it.  csum: XXH3-64, seed = block number,
 * over bytes 8..4095.
 */
struct msnap_space_run {
	msnap_le64 blk;
	msnap_le32 nr;
	msnap_le32 count;
} __attribute__((packed));
static_assert(sizeof(struct msnap_space_run) == 16, "space run size");

#define MSNAP_SPACE_RUNS 253

struct msnap_space_blk {
	msnap_le64 csum;
	msnap_le64 magic;
	msnap_le64 gen; /* of the root record that names the chain */
	msnap_le64 next; /* next block of the chain, 0 at its end */
	msnap_le32 nr;
	uint8_t reserved[12];
	struct msnap_space_run run[MSNAP_SPACE_RUNS];
} __attribute__((packed));
static_assert(sizeof(struct msnap_space_blk) == MSNAP_BLOCK_SIZE, "space blk");

/*
 * Tree node.  csum: XXH3-64, seed = block number, over bytes 8..4095.
 *
 * level 0 (leaf): nr slots grow up behind the header, sorted by key; the
 * values they name grow down from the end of the block.  heap: offset of the
 * lowest value byte (4096 when empty); dead: bytes of removed values at or
 * above heap.
 * level > 0: nr entries of key and child; the key is the lowest that may be
 * below that child; heap = 4096, dead = 0.
 */
enum msnap_tree_type {
	MSNAP_TREE_NS = 1,
	MSNAP_TREE_EXTENT = 2,
	MSNAP_TREE_CATALOG = 3,
};

#define MSNAP_MAX_LEVEL 12
#define MSNAP_NODE_HDR 48

struct msnap_node {
	msnap_le64 csum;
	msnap_le32 magic;
	uint8_t type;
	uint8_t level;
	msnap_le16 nr;
	msnap_le64 blk;
	msnap_le64 gen;
	msnap_le64 owner; /* inode that wrote it, 0 for namespace and catalog */
	msnap_le16 heap;
	msnap_le16 dead;
	msnap_le32 reserved;
	uint8_t body[MSNAP_BLOCK_SIZE - MSNAP_NODE_HDR];
} __attribute__((packed));
static_assert(sizeof(struct msnap_node) == MSNAP_BLOCK_SIZE, "node size");
static_assert(offsetof(struct msnap_node, body) == MSNAP_NODE_HDR, "node hdr");

/* Keys: 16 bytes in namespace and catalog, in extent trees only the first 8. */
struct msnap_mkey {
	msnap_le64 hi;
	msnap_le64 lo;
} __attribute__((packed));

/* What follows the key in a leaf slot and in an inner entry. */
struct msnap_slot {
	msnap_le16 off;
	msnap_le16 len;
} __attribute__((packed));

/* Largest value: three must fit in a leaf, so that every split succeeds. */
#define MSNAP_VAL_MAX 1300

/*
 * Namespace tree.  hi = inode number; lo = kind << 56 | rest.
 *   INODE    rest 0                            struct msnap_inode
 *   DIRENT   rest = name hash (48) | seq (8)   struct msnap_dirent
 *   XATTR    rest = name hash (40) | seq (8) | chunk (8)
 *                                              struct msnap_xattr, chunk 0;
 *                                              plain bytes in the others
 *   SYMLINK  rest = chunk                      the target's bytes
 * seq tells apart names with the same hash.
 */
enum msnap_ns_kind {
	MSNAP_NS_INODE = 1,
	MSNAP_NS_DIRENT = 2,
	MSNAP_NS_XATTR = 3,
	MSNAP_NS_SYMLINK = 4,
};

#define MSNAP_ROOT_INO 1ull
#define MSNAP_FIRST_INO 16ull	  /* 2..15 are reserved */
#define MSNAP_MAX_INO (1ull << 40) /* so that snapshot and inode fit 64 bits */
#define MSNAP_MAX_SNAP (1ull << 22)
#define MSNAP_NAME_MAX 255
#define MSNAP_SYMLINK_MAX 4095
#define MSNAP_XATTR_MAX 65536
#define MSNAP_CHUNK 1024 /* bytes of a symlink or xattr in one record */

struct msnap_time {
	msnap_le64 sec; /* two's complement */
	msnap_le32 nsec;
} __attribute__((packed));

/* Flag of an inode: a directory in a snapshot of chosen entries; it has only these. */
#define MSNAP_INODE_FRAME 1u

struct msnap_inode {
	msnap_le32 mode; /* as st_mode */
	msnap_le32 nlink;
	msnap_le32 uid;
	msnap_le32 gid;
	msnap_le64 size; /* bytes; of a directory: its number of entries */
	msnap_le64 nr_blk; /* data blocks mapped, holes not counted */
	struct msnap_ref ext; /* extent tree */
	msnap_le64 parent; /* of a directory; 0 otherwise */
	msnap_le64 version; /* counts changes of data or attributes */
	struct msnap_time atime;
	struct msnap_time mtime;
	struct msnap_time ctime;
	struct msnap_time btime;
	msnap_le32 rdev;
	msnap_le32 flags;
	uint8_t reserved[16];
} __attribute__((packed));
static_assert(sizeof(struct msnap_inode) == 136, "inode size");
static_assert(offsetof(struct msnap_inode, ext) == 32, "inode ext");
static_assert(offsetof(struct msnap_inode, atime) == 64, "inode atime");

struct msnap_dirent {
	msnap_le64 ino;
	uint8_t type; /* DT_* of <dirent.h> */
	uint8_t len;
	uint8_t reserved[6];
	char name[]; /* len bytes, no NUL */
} __attribute__((packed));
static_assert(sizeof(struct msnap_dirent) == 16, "dirent size");

struct msnap_xattr {
	msnap_le32 len; /* of the whole value */
	uint8_t name_len;
	uint8_t reserved[3];
	char name[]; /* name_len bytes, then the first bytes of the value */
} __attribute__((packed));
static_assert(sizeof(struct msnap_xattr) == 8, "xattr size");

/*
 * Extent tree.  hi = file block.  The value maps nr file blocks to nr pool
 * blocks.  Written extents carry the XXH3-64 of every block (seed = its pool
 * block number), so that any part of an extent can be verified, split off or
 * shared without reading the rest.
 */
#define MSNAP_EXT_UNWRITTEN 1u /* allocated, reads as zeros, no checksums */
#define MSNAP_EXT_NOCSUM 2u    /* checksums are still to be computed */
#define MSNAP_EXT_FLAGS 3u

#define MSNAP_EXT_MAX_CSUM 64	  /* blocks of an extent with checksums */
#define MSNAP_EXT_MAX_PLAIN 65535 /* blocks of one without */

struct msnap_extent {
	msnap_le64 blk;
	msnap_le64 gen; /* generation that wrote or first mapped the data */
	msnap_le16 nr;
	msnap_le16 flags;
	msnap_le32 reserved;
	msnap_le64 csum[];
} __attribute__((packed));
static_assert(sizeof(struct msnap_extent) == 24, "extent size");
static_assert(sizeof(struct msnap_extent) + 8 * MSNAP_EXT_MAX_CSUM <=
		      MSNAP_VAL_MAX, "extent fits");

/*
 * Catalog tree.  lo = 0.  hi = kind << 56 | number.
 *   SNAP    number = snapshot id          struct msnap_snap
 *   DROP    number = block of tree root   struct msnap_drop: a tree (or part
 *           of one) that nothing else names any more; its references are
 *           given back in the background
 *   INODE   number = inode                empty: unlinked, perhaps still open
 *   VIEW    number = inode                empty: its contents may be newer in
 *           a file beside the pool (direct mode)
 *   SCRUB   number = 0                    struct msnap_scrub_rec
 */
enum msnap_cat_kind {
	MSNAP_CAT_SNAP = 1,
	MSNAP_CAT_DROP = 2,
	MSNAP_CAT_ORPHAN = 3,
	MSNAP_CAT_VIEW = 4,
	MSNAP_CAT_SCRUB = 5,
};

#define MSNAP_COMMENT_MAX 512

struct msnap_snap {
	struct msnap_ref ns; /* namespace tree of the snapshot */
	msnap_le64 gen;	     /* generation it was taken in */
	msnap_le64 time_ns;
	msnap_le64 scope; /* directory it was taken of (of a file: its parent) */
	msnap_le64 nr_inodes;
	msnap_le32 holds;
	msnap_le32 flags;
	uint8_t name_len;
	uint8_t reserved0;
	msnap_le16 comment_len;
	msnap_le32 uid; /* who took it */
	char text[]; /* name, then comment */
} __attribute__((packed));
static_assert(sizeof(struct msnap_snap) == 64, "snap size");
#define MSNAP_SNAP_PARTIAL 1u /* chosen entries only, no whole directory */

struct msnap_drop {
	struct msnap_ref root;
	msnap_le32 type; /* enum msnap_tree_type */
	msnap_le32 reserved;
} __attribute__((packed));
static_assert(sizeof(struct msnap_drop) == 24, "drop size");

/*
 * The last scrub: what it found, and where it goes on.  Keys: everything below them
 * was looked at.  where 0: the live namespace, up to ns; 1: the catalog, up to cat;
 * 2: the namespace of snapshot snap, up to ns.  ino: the file that it was in the
 * middle of, up to block fb; 0: none.
 */
#define MSNAP_SCRUB_REC_DONE 1u /* it came to its end; the place means nothing */
#define MSNAP_SCRUB_WHERE_MAX 2

struct msnap_scrub_rec {
	msnap_le32 flags;
	msnap_le32 where;
	msnap_le64 snap;
	msnap_le64 cat; /* hi; lo is 0 */
	struct msnap_mkey ns;
	msnap_le64 ino;
	msnap_le64 fb;
	msnap_le64 begin_ns; /* since the epoch */
	msnap_le64 end_ns;   /* it ended or was last saved */
	msnap_le64 nr_nodes;
	msnap_le64 nr_blocks;
	msnap_le64 nr_filled;
	msnap_le64 nr_unchecked;
	msnap_le64 nr_damaged;
	msnap_le64 nr_passed;
	uint8_t reserved[16];
} __attribute__((packed));
static_assert(sizeof(struct msnap_scrub_rec) == 136, "scrub size");
static_assert(offsetof(struct msnap_scrub_rec, begin_ns) == 56, "scrub times");

#endif
