/* SPDX-License-Identifier: GPL-2.0-or-later */
/* choices: the sources, the enumerator, the property runner and its shrinking; prng, fault. */
#include <glib.h>
#include <string.h>

#include "failure.h"
#include "test.h"
#include "util/prng.h"

/* --- prng --- */

/* The reference implementation with the state {1, 2, 3, 4}. */
static void test_prng_is_xoshiro(void)
{
    Prng p = {.s = {1, 2, 3, 4}};

    g_assert_cmpuint(prng_next(&p), ==, 11520);
    g_assert_cmpuint(prng_next(&p), ==, 0);
    g_assert_cmpuint(prng_next(&p), ==, 1509978240);
    g_assert_cmpuint(prng_next(&p), ==, G_GUINT64_CONSTANT(1215971899390074240));
}

static void test_prng_below_is_even(void)
{
    int seen[7] = {0};
    Prng p;

    prng_init(&p, 1);
    for (int i = 0; i < 70000; i++) {
        seen[prng_below(&p, 7)]++;
    }
    for (int i = 0; i < 7; i++) {
        g_assert_cmpint(ABS(seen[i] - 10000), <, 500);
    }
    g_assert_cmpuint(prng_below(&p, 1), ==, 0);
}

static void test_prng_fill_is_the_same_in_pieces_of_8(void)
{
    uint8_t whole[24], pieces[24];
    Prng a, b;

    prng_init(&a, 42);
    prng_init(&b, 42);
    prng_fill(&a, whole, 24);
    prng_fill(&b, pieces, 8);
    prng_fill(&b, pieces + 8, 16);
    g_assert_cmpmem(whole, 24, pieces, 24);
}

/* --- fault --- */

static bool three_places(void)
{
    return !fault_hit("test-a") && !fault_hit("test-b") && !fault_hit("test-a");
}

static void test_each_place_fails_once(void)
{
    int failed = 0, passed = 0;

    for_each_failure(i)
    {
        bool ok = three_places();

        g_assert_true(ok == !fault_fired());
        *(ok ? &passed : &failed) += 1;
    }
    g_assert_cmpint(failed, ==, 3);
    g_assert_cmpint(passed, ==, 1);
}

static void test_only_named_places_count(void)
{
    int failed = 0;

    for_each_failure_of(i, "test-b")
    {
        failed += !three_places();
    }
    g_assert_cmpint(failed, ==, 1);
    g_assert_true(three_places());
}

/* --- sources --- */

static void test_seed_repeats(void)
{
    for (uint64_t seed = 0; seed < 50; seed++) {
        Choices *a = choices_of_seed(seed), *b = choices_of_seed(seed);

        for (uint64_t hi = 1; hi < UINT64_MAX / 3; hi *= 3) {
            uint64_t value = choose_in(a, hi / 2, hi);

            g_assert_cmpuint(value, ==, choose_in(b, hi / 2, hi));
            g_assert_cmpuint(value, >=, hi / 2);
            g_assert_cmpuint(value, <=, hi);
        }
        (void)choose_in(a, 0, UINT64_MAX);
        choices_free(a);
        choices_free(b);
    }
}

static void use_all_kinds(Choices *c, GString *log)
{
    static const unsigned weights[] = {0, 3, 1};
    uint8_t bytes[5];

    while (choose_more(c, 5)) {
        g_string_append_printf(log, "%d ", choose(c));
        g_string_append_printf(log, "%" G_GUINT64_FORMAT " ", choose_in(c, 10, 1000));
        g_string_append_printf(log, "%zu ", choose_weighted(c, weights, 3));
        choose_bytes(c, bytes, sizeof(bytes));
        g_string_append_printf(log, "%d\n", bytes[4]);
    }
}

static void test_recording_replays(void)
{
    Recording *r = g_new0(Recording, 1);

    for (uint64_t seed = 1; seed < 100; seed++) {
        g_autoptr(GString) first = g_string_new(NULL), second = g_string_new(NULL);
        Choices *c = choices_of_seed(seed);

        choices_record(c, r);
        use_all_kinds(c, first);
        choices_free(c);

        c = choices_of_recording(r->values, r->n);
        use_all_kinds(c, second);
        choices_free(c);
        g_assert_cmpstr(first->str, ==, second->str);
    }
    g_free(r);
}

static void test_empty_recording_is_the_simplest_case(void)
{
    Choices *c = choices_of_recording(NULL, 0);
    uint8_t bytes[3] = "xyz";

    g_assert_false(choose(c));
    g_assert_cmpuint(choose_in(c, 7, 9), ==, 7);
    choose_bytes(c, bytes, 3);
    g_assert_cmpmem(bytes, 3, "\0\0", 3);
    choices_free(c);
}

static void test_bytes_stay_in_range_and_end(void)
{
    uint8_t data[100];
    Prng p;

    prng_init(&p, 3);
    for (int round = 0; round < 100; round++) {
        Choices *c = choices_of_bytes(data, sizeof(data));
        int more = 0;

        prng_fill(&p, data, sizeof(data));
        for (int i = 0; i < 20; i++) {
            uint64_t value = choose_in(c, 100, 100 + i * 1000);

            g_assert_cmpuint(value, >=, 100);
            g_assert_cmpuint(value, <=, 100 + i * 1000);
        }
        while (choose(c)) {
            more++;
        }
        g_assert_cmpint(more, <=, 100);
        choices_free(c);
    }
}

static void test_enumerator_visits_each_once(void)
{
    Choices *c = choices_enumerate();
    g_autoptr(GString) all = g_string_new(NULL);

    do {
        g_string_append_printf(all, "%u", (unsigned)choose_in(c, 0, 2));
        if (choose(c)) {
            g_string_append_printf(all, "%u", (unsigned)choose_in(c, 5, 6));
        }
        g_string_append_c(all, ' ');
    } while (choices_next(c));
    choices_free(c);
    g_assert_cmpstr(all->str, ==, "0 05 06 1 15 16 2 25 26 ");
}

/* --- the runner: failing properties in a subprocess of g_test --- */

/* Fails from the third large number on: shrinks to three of the smallest large ones. */
static void prop_fails(Choices *c)
{
    int large = 0;

    while (choose_more(c, 20)) {
        large += choose_in(c, 0, 100000) > 1000;
    }
    g_assert_cmpint(large, <, 3);
}

static void prop_leaks(Choices *c)
{
    if (choose_in(c, 0, 9) == 7) {
        char *volatile lost = g_strdup("lost");

        lost = NULL;
        (void)lost;
    }
}

static void prop_hangs(Choices *c)
{
    while (choose_in(c, 0, 1) == 1) {
        for (volatile bool forever = true; forever;) {
        }
    }
}

static void prop_fails_once(Choices *c)
{
    uint64_t a = choose_in(c, 0, 5);

    g_assert_false(a == 3 && choose(c));
}

static void prop_passes(Choices *c)
{
    g_assert_cmpuint(choose_in(c, 3, 8), <, 9);
}

/* Run one of this program's subjects, which are there only if asked for; returns its stderr. */
static char *run_subject(const char *path, int *ret_status)
{
    g_autofree char *program = g_file_read_link("/proc/self/exe", NULL);
    const char *argv[] = {program, "-p", path, NULL};
    g_auto(GStrv) envp = g_environ_setenv(g_get_environ(), "TEST_CHOICES_SUBJECTS", "1", TRUE);
    g_autoptr(GError) err = NULL;
    char *text;

    g_spawn_sync(NULL, (char **)argv, envp, G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, NULL, &text,
                 ret_status, &err);
    g_assert_no_error(err);
    return text;
}

static void test_failure_is_shrunk_and_reported(void)
{
    int status;
    g_autofree char *text = run_subject("/subject/fails", &status);

    g_assert_cmpint(status, !=, 0);
    g_assert_nonnull(strstr(text, "TANDEM_SEED="));
    /* three times: go on, 1001 */
    g_assert_nonnull(strstr(text, "fails with 6 answers:"));
    g_assert_nonnull(strstr(text, "TANDEM_CHOICES=1,1001,1,1001,1,1001 "));
    g_assert_nonnull(strstr(text, "large"));
}

static void test_hang_is_a_failure(void)
{
    int status;
    g_autofree char *text = NULL;

    g_setenv("TANDEM_TRIAL_SECONDS", "1", TRUE);
    text = run_subject("/subject/hangs", &status);
    g_unsetenv("TANDEM_TRIAL_SECONDS");
    g_assert_cmpint(status, !=, 0);
    g_assert_nonnull(strstr(text, "TANDEM_CHOICES=1 "));
}

static void test_leak_is_found_where_it_can_be(void)
{
    int status;
    g_autofree char *text = run_subject("/subject/leaks", &status);

#ifdef __SANITIZE_ADDRESS__
    g_assert_cmpint(status, !=, 0);
    g_assert_nonnull(strstr(text, "TANDEM_CHOICES=7 "));
#else
    g_assert_cmpint(status, ==, 0);
#endif
}

static void test_enumerated_failure_is_reported(void)
{
    int status;
    g_autofree char *text = run_subject("/subject/enumerated", &status);

    g_assert_cmpint(status, !=, 0);
    g_assert_nonnull(strstr(text, "TANDEM_CHOICES=3,1 "));
}

__attribute__((constructor)) static void add_subjects(void)
{
    if (g_getenv("TEST_CHOICES_SUBJECTS") != NULL) {
        property_add("/subject/fails", prop_fails, PROPERTY_RANDOM);
        property_add("/subject/hangs", prop_hangs, PROPERTY_RANDOM);
        property_add("/subject/leaks", prop_leaks, PROPERTY_RANDOM);
        property_add("/subject/enumerated", prop_fails_once, PROPERTY_EXHAUSTIVE);
    }
}

TEST("/prng/is-xoshiro", test_prng_is_xoshiro)
TEST("/prng/below-is-even", test_prng_below_is_even)
TEST("/prng/fill-is-the-same-in-pieces-of-8", test_prng_fill_is_the_same_in_pieces_of_8)
TEST("/fault/each-place-fails-once", test_each_place_fails_once)
TEST("/fault/only-named-places-count", test_only_named_places_count)
TEST("/choices/seed-repeats", test_seed_repeats)
TEST("/choices/recording-replays", test_recording_replays)
TEST("/choices/empty-recording-is-simplest", test_empty_recording_is_the_simplest_case)
TEST("/choices/bytes-stay-in-range-and-end", test_bytes_stay_in_range_and_end)
TEST("/choices/enumerator-visits-each-once", test_enumerator_visits_each_once)
TEST("/choices/failure-is-shrunk-and-reported", test_failure_is_shrunk_and_reported)
TEST("/choices/hang-is-a-failure", test_hang_is_a_failure)
TEST("/choices/leak-is-found", test_leak_is_found_where_it_can_be)
TEST("/choices/enumerated-failure-is-reported", test_enumerated_failure_is_reported)
ENUMERATE("/choices/passes-all", prop_passes)
PROPERTY("/choices/passes", prop_passes)
