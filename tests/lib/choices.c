/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * choices: the four sources behind choose_in().
 *
 * All answers go through draw(), which takes the largest allowed answer (the
 * smallest is 0) and returns one; it alone knows the sources and the recording.
 */
#include "choices.h"

#include <glib.h>
#include <string.h>

#include "util/prng.h"

typedef enum SourceKind {
    SOURCE_SEED,
    SOURCE_BYTES,
    SOURCE_RECORDING,
    SOURCE_ENUMERATOR,
} SourceKind;

typedef struct Digit {
    uint64_t value, max;
} Digit;

struct Choices {
    SourceKind kind;
    Prng prng;
    const uint8_t *data; /* bytes */
    const uint64_t *values;
    size_t left;    /* bytes, recording */
    GArray *digits; /* enumerator: an odometer, last digit fastest */
    guint position;
    Recording *recording; /* may be NULL */
};

static Choices *choices_make(SourceKind kind)
{
    Choices *c = g_new0(Choices, 1);

    c->kind = kind;
    return c;
}

Choices *choices_of_seed(uint64_t seed)
{
    Choices *c = choices_make(SOURCE_SEED);

    prng_init(&c->prng, seed);
    return c;
}

Choices *choices_of_bytes(const uint8_t *data, size_t bytes)
{
    Choices *c = choices_make(SOURCE_BYTES);

    c->data = data;
    c->left = bytes;
    return c;
}

Choices *choices_of_recording(const uint64_t *values, size_t n)
{
    Choices *c = choices_make(SOURCE_RECORDING);

    c->values = values;
    c->left = n;
    return c;
}

Choices *choices_enumerate(void)
{
    Choices *c = choices_make(SOURCE_ENUMERATOR);

    c->digits = g_array_new(FALSE, FALSE, sizeof(Digit));
    return c;
}

void choices_free(Choices *c)
{
    if (c->digits != NULL) {
        g_array_free(c->digits, TRUE);
    }
    g_free(c);
}

void choices_record(Choices *c, Recording *r)
{
    c->recording = r;
    r->n = 0;
}

bool choices_next(Choices *c)
{
    assert(c->kind == SOURCE_ENUMERATOR);
    g_array_set_size(c->digits, c->position); /* what this trial did not ask for */
    c->position = 0;
    while (c->digits->len > 0) {
        Digit *d = &g_array_index(c->digits, Digit, c->digits->len - 1);

        if (d->value < d->max) {
            d->value++;
            return true;
        }
        g_array_set_size(c->digits, c->digits->len - 1);
    }
    return false;
}

/* --- one draw function per source --- */

static uint64_t prng_upto(Prng *p, uint64_t max)
{
    return max == UINT64_MAX ? prng_next(p) : prng_below(p, max + 1);
}

/* Bugs live at bounds and around powers of two: visit them more often. */
static uint64_t draw_seed(Choices *c, uint64_t max)
{
    uint64_t power, offset;

    if (max < 8) {
        return prng_upto(&c->prng, max);
    }
    switch (prng_below(&c->prng, 24)) {
    case 0:
        return 0;
    case 1:
        return max;
    case 2:
    case 3:
        power = UINT64_C(1) << prng_below(&c->prng, 64 - __builtin_clzll(max));
        offset = prng_below(&c->prng, 3); /* power - 1, power, power + 1 */
        return MIN(power - 1 + offset, max);
    default:
        return prng_upto(&c->prng, max);
    }
}

/* As few bytes as hold the bound, so that a fuzzer's small change is small for us. */
static uint64_t draw_bytes(Choices *c, uint64_t max)
{
    uint64_t value = 0;

    for (uint64_t room = max; room > 0 && c->left > 0; room >>= 8) {
        value = value << 8 | *c->data;
        c->data++;
        c->left--;
    }
    return max == UINT64_MAX ? value : value % (max + 1);
}

static uint64_t draw_recording(Choices *c, uint64_t max)
{
    uint64_t value;

    if (c->left == 0) {
        return 0;
    }
    c->left--;
    value = *c->values++;
    return MIN(value, max);
}

static uint64_t draw_enumerator(Choices *c, uint64_t max)
{
    if (c->position == c->digits->len) {
        Digit d = {.value = 0, .max = max};

        g_array_append_val(c->digits, d);
    }

    const Digit *d = &g_array_index(c->digits, Digit, c->position++);

    g_assert_cmpuint(d->max, ==, max); /* else the property is not deterministic */
    return d->value;
}

static void record(Choices *c, uint64_t value)
{
    Recording *r = c->recording;

    if (r == NULL) {
        return;
    }
    if (r->n < RECORDING_MAX) {
        r->values[r->n] = value;
    }
    r->n++;
}

static uint64_t draw(Choices *c, uint64_t max)
{
    static uint64_t (*const fns[])(Choices *, uint64_t) = {
        [SOURCE_SEED] = draw_seed,
        [SOURCE_BYTES] = draw_bytes,
        [SOURCE_RECORDING] = draw_recording,
        [SOURCE_ENUMERATOR] = draw_enumerator,
    };
    uint64_t value = max == 0 ? 0 : fns[c->kind](c, max);

    if (max > 0) {
        record(c, value);
    }
    return value;
}

/* --- what properties use --- */

uint64_t choose_in(Choices *c, uint64_t lo, uint64_t hi)
{
    assert(lo <= hi);
    return lo + draw(c, hi - lo);
}

bool choose(Choices *c)
{
    return draw(c, 1) != 0;
}

bool choose_more(Choices *c, unsigned mean)
{
    uint64_t more;

    if (c->kind != SOURCE_SEED) {
        return draw(c, 1) != 0;
    }
    /* Recorded as the yes or no that it is, whatever its odds. */
    more = prng_below(&c->prng, (uint64_t)mean + 1) != 0;
    record(c, more);
    return more != 0;
}

size_t choose_weighted(Choices *c, const unsigned *weights, size_t n)
{
    uint64_t sum = 0, at;

    for (size_t i = 0; i < n; i++) {
        sum += weights[i];
    }
    assert(sum > 0);
    at = draw(c, sum - 1);
    for (size_t i = 0; i < n; i++) {
        if (at < weights[i]) {
            return i;
        }
        at -= weights[i];
    }
    g_assert_not_reached();
}

void choose_bytes(Choices *c, void *buf, size_t bytes)
{
    Prng p;
    uint64_t seed = draw(c, UINT32_MAX);

    if (seed == 0) {
        memset(buf, 0, bytes);
        return;
    }
    prng_init(&p, seed);
    prng_fill(&p, buf, bytes);
}
