/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hbitmap: a tree of nodes with 64 slots each.
 *
 * At level 0 a slot is a word of 64 bits; above, it is a node of the level
 * below. Two masks say of each slot whether it has a set bit (any) and whether
 * it has a clear one (notfull). A slot with only set or only clear bits has no
 * node below it, so memory follows the edges between set and clear runs: a map
 * that is all clear or all set is a root, whatever its size, and finding a bit
 * costs a step down and at most one back up per level.
 *
 * Invariants: at level > 0, child[i] is there exactly if slot i is in both
 * masks; bits at and behind hb->bits are clear; set_bits counts the set ones.
 */
#include "util/hbitmap.h"

#include <glib.h>

#include "util/fault.h"

#define SLOTS     64
#define SLOT_BITS 6

typedef struct Node Node;
struct Node {
    uint64_t any, notfull;
    union {
        uint64_t word[SLOTS];
        Node *child[SLOTS];
    };
};

struct HBitmap {
    uint64_t bytes, bits;
    uint64_t set_bits;
    int granularity_bits;
    int level; /* of the root */
    Node *root;
};

/* --- geometry --- */

/* A slot of a node at @level stands for 1 << slot_shift(level) bits. */
static int slot_shift(int level)
{
    return SLOT_BITS * (level + 1);
}

static uint64_t low_mask(int shift)
{
    return (UINT64_C(1) << shift) - 1;
}

/* The lowest level whose root holds @bits. */
static int level_for(uint64_t bits)
{
    for (int level = 0;; level++) {
        int shift = slot_shift(level + 1); /* of the whole node */

        if (shift >= 64 || bits <= UINT64_C(1) << shift) {
            return level;
        }
    }
}

static uint64_t bit_mask(int first, int last)
{
    return (UINT64_MAX >> (63 - last)) & (UINT64_MAX << first);
}

/* --- nodes --- */

static Node *node_try_new(void)
{
    Node *n = fault_hit("hbitmap-alloc") ? NULL : g_try_new0(Node, 1);

    if (n != NULL) {
        n->notfull = UINT64_MAX;
    }
    return n;
}

static Node *node_new(int level, bool full)
{
    Node *n = g_new0(Node, 1);

    n->any = full ? UINT64_MAX : 0;
    n->notfull = ~n->any;
    for (int i = 0; level == 0 && full && i < SLOTS; i++) {
        n->word[i] = UINT64_MAX;
    }
    return n;
}

static uint64_t slot_count(const Node *n, int level, int i);

static uint64_t node_count(const Node *n, int level)
{
    uint64_t count = 0;

    for (uint64_t left = n->any; left != 0; left &= left - 1) {
        count += slot_count(n, level, __builtin_ctzll(left));
    }
    return count;
}

/* Set bits of slot @i, which has some. */
static uint64_t slot_count(const Node *n, int level, int i)
{
    if (!(n->notfull >> i & 1)) {
        return UINT64_C(1) << slot_shift(level);
    }
    return level == 0 ? (uint64_t)__builtin_popcountll(n->word[i])
                      : node_count(n->child[i], level - 1);
}

static void node_free(Node *n, int level)
{
    for (uint64_t left = n->any & n->notfull; level > 0 && left != 0; left &= left - 1) {
        node_free(n->child[__builtin_ctzll(left)], level - 1);
    }
    g_free(n);
}

/* --- change a range --- */

static void mask_put(uint64_t *mask, int i, bool on)
{
    *mask = (*mask & ~(UINT64_C(1) << i)) | (uint64_t)on << i;
}

static bool slot_any(const Node *n, int i)
{
    return n->any >> i & 1;
}

static bool slot_notfull(const Node *n, int i)
{
    return n->notfull >> i & 1;
}

static void word_put(HBitmap *hb, Node *n, int i, uint64_t mask, bool set)
{
    uint64_t old = n->word[i];
    uint64_t new = set ? old | mask : old & ~mask;

    hb->set_bits += __builtin_popcountll(new) - __builtin_popcountll(old);
    n->word[i] = new;
    mask_put(&n->any, i, new != 0);
    mask_put(&n->notfull, i, new != UINT64_MAX);
}

/* Make all of slot @i set or clear, at level > 0. */
static void slot_put_whole(HBitmap *hb, Node *n, int level, int i, bool set)
{
    if (slot_any(n, i)) {
        hb->set_bits -= slot_count(n, level, i);
    }
    if (slot_any(n, i) && slot_notfull(n, i)) {
        node_free(n->child[i], level - 1);
        n->child[i] = NULL;
    }
    if (set) {
        hb->set_bits += UINT64_C(1) << slot_shift(level);
    }
    mask_put(&n->any, i, set);
    mask_put(&n->notfull, i, !set);
}

static void node_put(HBitmap *hb, Node *n, int level, uint64_t first, uint64_t last, bool set);

/* Bits @first to @last of slot @i, which is not whole; level > 0. */
static void
slot_put_part(HBitmap *hb, Node *n, int level, int i, uint64_t first, uint64_t last, bool set)
{
    Node *child;

    if (set ? !slot_notfull(n, i) : !slot_any(n, i)) {
        return; /* all of the slot is so already */
    }
    if (!slot_any(n, i) || !slot_notfull(n, i)) {
        n->child[i] = node_new(level - 1, slot_any(n, i));
    }
    child = n->child[i];
    node_put(hb, child, level - 1, first, last, set);
    mask_put(&n->any, i, child->any != 0);
    mask_put(&n->notfull, i, child->notfull != 0);
    if (child->any == 0 || child->notfull == 0) {
        g_free(child); /* all its slots are alike: nothing below */
        n->child[i] = NULL;
    }
}

/* @first and @last count from the first bit of @n. */
static void node_put(HBitmap *hb, Node *n, int level, uint64_t first, uint64_t last, bool set)
{
    int shift = slot_shift(level);
    uint64_t in_slot = low_mask(shift);

    for (uint64_t i = first >> shift; i <= last >> shift; i++) {
        uint64_t a = i == first >> shift ? first & in_slot : 0;
        uint64_t b = i == last >> shift ? last & in_slot : in_slot;

        if (level == 0) {
            word_put(hb, n, i, bit_mask(a, b), set);
        } else if (a == 0 && b == in_slot) {
            slot_put_whole(hb, n, level, i, set);
        } else {
            slot_put_part(hb, n, level, i, a, b, set);
        }
    }
}

static void put_bytes(HBitmap *hb, uint64_t offset, uint64_t bytes, bool set)
{
    assert(offset <= hb->bytes && bytes <= hb->bytes - offset);
    if (bytes > 0) {
        node_put(hb, hb->root, hb->level, offset >> hb->granularity_bits,
                 (offset + bytes - 1) >> hb->granularity_bits, set);
    }
}

void hbitmap_set(HBitmap *hb, uint64_t offset, uint64_t bytes)
{
    put_bytes(hb, offset, bytes, true);
}

void hbitmap_reset(HBitmap *hb, uint64_t offset, uint64_t bytes)
{
    put_bytes(hb, offset, bytes, false);
}

void hbitmap_reset_all(HBitmap *hb)
{
    node_free(hb->root, hb->level);
    hb->root = node_new(hb->level, false);
    hb->set_bits = 0;
}

/* --- find --- */

#define NO_BIT UINT64_MAX

/* The first bit >= @from of @n that is @set; NO_BIT if there is none. */
static uint64_t node_find(const Node *n, int level, uint64_t from, bool set);

/* In slot @i, which may have one. @from counts from the start of the slot. */
static uint64_t slot_find(const Node *n, int level, int i, uint64_t from, bool set)
{
    if (set ? !slot_notfull(n, i) : !slot_any(n, i)) {
        return from; /* every bit is */
    }
    if (level > 0) {
        return node_find(n->child[i], level - 1, from, set);
    }

    uint64_t left = (set ? n->word[i] : ~n->word[i]) & (UINT64_MAX << from);

    return left != 0 ? (uint64_t)__builtin_ctzll(left) : NO_BIT;
}

static uint64_t node_find(const Node *n, int level, uint64_t from, bool set)
{
    int shift = slot_shift(level);
    int first = from >> shift;
    uint64_t left = (set ? n->any : n->notfull) & (UINT64_MAX << first);

    for (; left != 0; left &= left - 1) {
        int i = __builtin_ctzll(left);
        uint64_t base = (uint64_t)i << shift;
        uint64_t at = slot_find(n, level, i, i == first ? from - base : 0, set);

        if (at != NO_BIT) {
            return base + at;
        }
    }
    return NO_BIT;
}

static uint64_t find_byte(const HBitmap *hb, uint64_t offset, bool set)
{
    uint64_t bit;

    if (offset >= hb->bytes) {
        return NO_BIT;
    }
    bit = node_find(hb->root, hb->level, offset >> hb->granularity_bits, set);
    if (bit == NO_BIT || bit >= hb->bits) {
        return NO_BIT;
    }
    return MAX(offset, bit << hb->granularity_bits);
}

bool hbitmap_get(const HBitmap *hb, uint64_t offset)
{
    assert(offset < hb->bytes);

    const Node *n = hb->root;
    uint64_t bit = offset >> hb->granularity_bits;

    for (int level = hb->level;; level--) {
        int i = bit >> slot_shift(level) & (SLOTS - 1);

        if (!slot_any(n, i) || !slot_notfull(n, i)) {
            return slot_any(n, i);
        }
        if (level == 0) {
            return n->word[i] >> (bit % 64) & 1;
        }
        n = n->child[i];
    }
}

uint64_t hbitmap_next_set(const HBitmap *hb, uint64_t offset)
{
    return find_byte(hb, offset, true);
}

uint64_t hbitmap_next_clear(const HBitmap *hb, uint64_t offset)
{
    return MIN(find_byte(hb, offset, false), hb->bytes);
}

bool hbitmap_next_run(const HBitmap *hb, uint64_t *offset, uint64_t end, uint64_t *ret_bytes)
{
    uint64_t start = hbitmap_next_set(hb, *offset);

    if (start >= end) { /* also when there is none */
        return false;
    }
    *offset = start;
    *ret_bytes = MIN(hbitmap_next_clear(hb, start), end) - start;
    return true;
}

uint64_t hbitmap_count(const HBitmap *hb)
{
    uint64_t bytes = hb->set_bits << hb->granularity_bits;
    uint64_t covered = hb->bits << hb->granularity_bits;

    if (hb->set_bits > 0 && hbitmap_get(hb, hb->bytes - 1)) {
        bytes -= covered - hb->bytes; /* the last bit reaches past the end */
    }
    return bytes;
}

uint64_t hbitmap_bytes(const HBitmap *hb)
{
    return hb->bytes;
}

uint32_t hbitmap_granularity(const HBitmap *hb)
{
    return UINT32_C(1) << hb->granularity_bits;
}

/* --- life --- */

static uint64_t bits_of(uint64_t bytes, int granularity_bits)
{
    return (bytes >> granularity_bits) + ((bytes & low_mask(granularity_bits)) != 0);
}

HBitmap *hbitmap_new(uint64_t bytes, uint32_t granularity)
{
    assert(granularity > 0 && (granularity & (granularity - 1)) == 0 && bytes <= INT64_MAX);

    HBitmap *hb = g_try_new0(HBitmap, 1);

    if (hb == NULL) {
        return NULL;
    }
    hb->granularity_bits = __builtin_ctz(granularity);
    hb->bytes = bytes;
    hb->bits = bits_of(bytes, hb->granularity_bits);
    hb->level = level_for(hb->bits);
    hb->root = node_try_new();
    if (hb->root == NULL) {
        g_free(hb);
        return NULL;
    }
    return hb;
}

void hbitmap_free(HBitmap *hb)
{
    if (hb != NULL) {
        node_free(hb->root, hb->level);
        g_free(hb);
    }
}

/* Put the root one level higher: it becomes the first slot of a new one. */
static bool raise_root(HBitmap *hb)
{
    Node *root = node_try_new();

    if (root == NULL) {
        return false;
    }
    mask_put(&root->any, 0, hb->root->any != 0);
    mask_put(&root->notfull, 0, hb->root->notfull != 0);
    if (hb->root->any != 0 && hb->root->notfull != 0) {
        root->child[0] = hb->root;
    } else {
        g_free(hb->root);
    }
    hb->root = root;
    hb->level++;
    return true;
}

bool hbitmap_truncate(HBitmap *hb, uint64_t bytes)
{
    uint64_t bits = bits_of(bytes, hb->granularity_bits);

    assert(bytes <= INT64_MAX);
    while (hb->level < level_for(bits)) {
        if (!raise_root(hb)) {
            return false; /* a higher root means the same */
        }
    }
    if (bits < hb->bits) {
        node_put(hb, hb->root, hb->level, bits, hb->bits - 1, false);
    }
    hb->bytes = bytes;
    hb->bits = bits;
    return true;
}

/* --- merge --- */

static Node *node_copy(const Node *src, int level)
{
    Node *n = g_memdup2(src, sizeof(*src));

    for (uint64_t left = n->any & n->notfull; level > 0 && left != 0; left &= left - 1) {
        int i = __builtin_ctzll(left);

        n->child[i] = node_copy(src->child[i], level - 1);
    }
    return n;
}

static void node_merge(HBitmap *hb, Node *dst, const Node *src, int level);

/* Slot @i of @src has set bits; that of @dst has clear ones; level > 0. */
static void slot_merge(HBitmap *hb, Node *dst, const Node *src, int level, int i)
{
    Node *child;

    if (!slot_notfull(src, i)) {
        slot_put_whole(hb, dst, level, i, true);
        return;
    }
    if (!slot_any(dst, i)) {
        dst->child[i] = node_copy(src->child[i], level - 1);
        mask_put(&dst->any, i, true);
        hb->set_bits += slot_count(dst, level, i);
        return;
    }
    child = dst->child[i];
    node_merge(hb, child, src->child[i], level - 1);
    if (child->notfull == 0) {
        mask_put(&dst->notfull, i, false);
        g_free(child);
        dst->child[i] = NULL;
    }
}

static void node_merge(HBitmap *hb, Node *dst, const Node *src, int level)
{
    for (uint64_t left = src->any & dst->notfull; left != 0; left &= left - 1) {
        int i = __builtin_ctzll(left);

        if (level == 0) {
            word_put(hb, dst, i, src->word[i], true);
        } else {
            slot_merge(hb, dst, src, level, i);
        }
    }
}

void hbitmap_merge(HBitmap *dst, const HBitmap *src)
{
    uint64_t offset = 0, bytes;

    assert(dst->bytes == src->bytes);
    if (dst == src) {
        return;
    }
    /* A map that has shrunk keeps its high root, hence the levels. */
    if (dst->granularity_bits == src->granularity_bits && dst->level == src->level) {
        node_merge(dst, dst->root, src->root, dst->level);
        return;
    }
    while (hbitmap_next_run(src, &offset, src->bytes, &bytes)) {
        hbitmap_set(dst, offset, bytes);
        offset += bytes;
    }
}
