/* SPDX-License-Identifier: Apache-2.0 */
/* link: base mesh */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mesh/heartbeat.h"

static void heartbeat__beats_each_period_and_soon_for_newcomers(void **state)
{
    (void)state;
    struct pfl_heartbeat h;
    pfl_heartbeat_init(&h, 2 * PFL_SEC, 5 * PFL_SEC);
    assert_int_equal(pfl_heartbeat_deadline(&h), PFL_NEVER);
    pfl_heartbeat_observe(&h, 10 * PFL_SEC);
    assert_int_equal(pfl_heartbeat_deadline(&h), 12 * PFL_SEC);
    pfl_heartbeat_soon(&h, 10 * PFL_SEC); /* none sent yet: at once */
    assert_true(pfl_heartbeat_due(&h, 10 * PFL_SEC));
    pfl_heartbeat_sent(&h, 10 * PFL_SEC);
    pfl_heartbeat_soon(&h, 10 * PFL_SEC + PFL_MS);
    pfl_heartbeat_soon(&h, 10 * PFL_SEC + 2 * PFL_MS);
    assert_int_equal(pfl_heartbeat_deadline(&h), 10 * PFL_SEC + 200 * PFL_MS); /* at most one in 200 ms */
    pfl_heartbeat_sent(&h, 10 * PFL_SEC + 200 * PFL_MS);
    assert_int_equal(pfl_heartbeat_deadline(&h), 12 * PFL_SEC + 200 * PFL_MS);
    assert_int_equal(pfl_heartbeat_expiry(&h, 11 * PFL_SEC), 16 * PFL_SEC);
    pfl_heartbeat_observe(&h, 40 * PFL_SEC); /* slept */
    assert_int_equal(pfl_heartbeat_expiry(&h, 11 * PFL_SEC), 42 * PFL_SEC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heartbeat__beats_each_period_and_soon_for_newcomers),
    };
    return cmocka_run_group_tests_name("heartbeat", tests, NULL, NULL);
}
