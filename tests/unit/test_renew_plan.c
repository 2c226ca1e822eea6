/* SPDX-License-Identifier: Apache-2.0 */
/* link: base pki */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "pki/node_renew.h"

static const struct pfl_renew_plan DAY = {.not_before = 1000000, .not_after = 1086400, .at = 2.0 / 3.0};

static void test_due__two_thirds_of_the_life__jitter_moves_it_by_a_twentieth(void **state)
{
    (void)state;
    struct pfl_renew_plan p = DAY;
    assert_true(pfl_renew_due(&p) > 1057599 && pfl_renew_due(&p) < 1057601);
    p.jitter = -1;
    assert_true(pfl_renew_due(&p) > 1053279 && pfl_renew_due(&p) < 1053281);
    p.jitter = 0.999;
    assert_true(pfl_renew_due(&p) < 1061921);
}

/* What a loop does that looks at the clock now and then: how often it would have renewed. */
static unsigned walk(struct pfl_renew_plan p, const double *clock, size_t n)
{
    unsigned renewed = 0;
    for (size_t i = 0; i < n; i++) {
        if (clock[i] >= pfl_renew_due(&p)) {
            double length = p.not_after - p.not_before;
            p.not_before = clock[i];
            p.not_after = clock[i] + length;
            renewed++;
        }
    }
    return renewed;
}

static void test_due__the_clock_jumps_and_sleeps(void **state)
{
    (void)state;
    const double slept[] = {1000000, 1000060, 1090000, 1090060};         /* a night asleep, past the end: once, at once */
    const double back[] = {1057700, 1000500, 1000560, 1057500, 1120000}; /* set back: nothing is due until it comes there again */
    const double to_and_fro[] = {1000000, 1200000, 1000000, 1000060};    /* a jump forward renews, the way back does no harm */
    assert_int_equal(walk(DAY, slept, 4), 1);
    assert_int_equal(walk(DAY, back, 5), 2);
    assert_int_equal(walk(DAY, to_and_fro, 4), 1);
}

static void test_backoff__doubles_and_is_bounded_by_the_life(void **state)
{
    (void)state;
    struct pfl_renew_plan p = DAY;
    p.failures = 1;
    p.failed_at = 1060000;
    assert_true(pfl_renew_due(&p) == 1060864.0);
    p.failures = 2;
    assert_true(pfl_renew_due(&p) == 1061728.0);
    p.failures = 1000000;
    assert_true(pfl_renew_due(&p) == 1063600.0); /* an hour */
    p.not_after = p.not_before + 10;             /* ten seconds of life: still several attempts in its last third */
    assert_true(pfl_renew_backoff(&p) == 0.5);
    assert_true(pfl_renew_period(&p) == 0.2);
    assert_true(pfl_renew_period(&DAY) == 60.0);
}

static void test_due__a_failure_before_its_time_changes_nothing(void **state)
{
    (void)state;
    struct pfl_renew_plan p = DAY;
    double due = pfl_renew_due(&p);
    p.failures = 3;
    p.failed_at = p.not_before + 5; /* a forced one */
    assert_true(pfl_renew_due(&p) == due);
}

static void test_due__a_certificate_whose_times_are_nonsense__now(void **state)
{
    (void)state;
    const struct pfl_renew_plan p = {.not_before = 500, .not_after = 400, .at = 0.67};
    assert_true(pfl_renew_due(&p) == 500.0);
    assert_true(pfl_renew_backoff(&p) == 0.2 && pfl_renew_period(&p) == 0.2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_due__two_thirds_of_the_life__jitter_moves_it_by_a_twentieth),
        cmocka_unit_test(test_due__the_clock_jumps_and_sleeps),
        cmocka_unit_test(test_backoff__doubles_and_is_bounded_by_the_life),
        cmocka_unit_test(test_due__a_failure_before_its_time_changes_nothing),
        cmocka_unit_test(test_due__a_certificate_whose_times_are_nonsense__now),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
