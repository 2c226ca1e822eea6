/* SPDX-License-Identifier: Apache-2.0 */
/* The event queue: by time, then by order of insertion, whatever the order of what is put in and taken out. */
/* link: base sim */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/rng.h"
#include "sim/queue.h"

static void test_pop__empty__nothing(void **state)
{
    struct pfl_sim_queue q = {0};
    (void)state;
    assert_int_equal(pfl_sim_queue_pop(&q), PFL_SIM_QUEUE_NONE);
    assert_true(pfl_sim_queue_next(&q) == PFL_NEVER);
    pfl_sim_queue_deinit(&q);
}

static void test_pop__equal_times__order_of_insertion(void **state)
{
    struct pfl_sim_queue q = {0};
    (void)state;
    for (uint32_t i = 0; i < 100; i++)
        pfl_sim_queue_push(&q, i % 3 == 0 ? 7 : 5, i);
    int last = -1;
    for (int k = 0; k < 100; k++) {
        bool late = pfl_sim_queue_next(&q) == 7;
        int i = (int)pfl_sim_queue_pop(&q);
        assert_int_equal(late, i % 3 == 0);
        if (k != 66) /* the first of the later ones */
            assert_true(i > last);
        last = i;
    }
    assert_int_equal(pfl_sim_queue_pop(&q), PFL_SIM_QUEUE_NONE);
    pfl_sim_queue_deinit(&q);
}

/* Against the plainest model there is: the least of all that are in. */
static void test_pop__pushed_and_popped_at_random__always_the_least(void **state)
{
    enum { N = 3000 };
    static pfl_ns at[N];
    static bool in[N];
    struct pfl_sim_queue q = {0};
    struct pfl_rng rng;
    int n = 0, left = 0;
    (void)state;
    pfl_rng_seed(&rng, 42);
    while (n < N || left > 0) {
        if (n < N && (left == 0 || pfl_rng_below(&rng, 3) > 0)) {
            at[n] = (pfl_ns)pfl_rng_below(&rng, 500);
            in[n] = true;
            pfl_sim_queue_push(&q, at[n], (uint32_t)n);
            n++;
            left++;
            continue;
        }
        int least = -1;
        for (int i = 0; i < n; i++) {
            if (in[i] && (least < 0 || at[i] < at[least]))
                least = i;
        }
        assert_true(pfl_sim_queue_next(&q) == at[least]);
        assert_int_equal(pfl_sim_queue_pop(&q), least);
        in[least] = false;
        left--;
    }
    assert_true(q.most > 1 && q.most < N);
    pfl_sim_queue_deinit(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pop__empty__nothing),
        cmocka_unit_test(test_pop__equal_times__order_of_insertion),
        cmocka_unit_test(test_pop__pushed_and_popped_at_random__always_the_least),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
