/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tls rpc */
/* As whose connections are those of an address counted? */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "rpc/server_impl.h"

static void key_of(const char *ip, uint16_t port, char out[64])
{
    struct sockaddr_storage sa = {0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)&sa;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)&sa;
    if (inet_pton(AF_INET, ip, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
    } else {
        assert_int_equal(inet_pton(AF_INET6, ip, &v6->sin6_addr), 1);
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
    }
    pfl_server_ip_of(&sa, out, 64);
}

static void test_server_ip_of__the_same_party__the_same_key(void **state)
{
    static const struct {
        const char *a, *b;
        bool same;
    } rows[] = {
        {"192.0.2.7", "192.0.2.7", true},
        {"192.0.2.7", "192.0.2.8", false},
        {"2001:db8:1:2::1", "2001:db8:1:2:ffff:1:2:3", true}, /* as many addresses as it likes */
        {"2001:db8:1:2::1", "2001:db8:1:3::1", false},
        {"::ffff:192.0.2.7", "::ffff:192.0.2.8", false}, /* IPv4 in IPv6: whole */
        {"::ffff:192.0.2.7", "::ffff:192.0.2.7", true},
    };
    (void)state;
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        char a[64], b[64];
        key_of(rows[i].a, 1000, a);
        key_of(rows[i].b, 2000, b);
        if ((strcmp(a, b) == 0) != rows[i].same)
            fail_msg("%s: %s, %s: %s", rows[i].a, a, rows[i].b, b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_server_ip_of__the_same_party__the_same_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
