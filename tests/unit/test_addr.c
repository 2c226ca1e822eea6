/* SPDX-License-Identifier: Apache-2.0 */
/* link: base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/addr.h"
#include "base/mem.h"

static void test_addr_parse__refused_with_the_reason(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"", "empty"},
        {":6666", "a host has"},
        {"host:", "port"},
        {"host:65536", "port"},
        {"host:-1", "port"},
        {"host:+1", "port"},
        {"host:12a", "port"},
        {"host: 1", "port"},
        {"[::1", "']'"},
        {"[::1]6666", "port"},
        {"[::1]:", "port"},
        {"[]:1", "IPv6"},
        {"[127.0.0.1]:1", "IPv6"},
        {"[fe80::1%eth0]:1", "IPv6"},
        {"1:2:3", "IPv6"},
        {"127.1:6666", "IPv4"},
        {"256.1.1.1:6666", "IPv4"},
        {"2130706433:1", "IPv4"},
        {"-host:1", "a host has"},
        {".host:1", "a host has"},
        {"ho st:1", "a host has"},
        {"host/x:1", "a host has"},
        {"user@host:1", "a host has"},
        {"h\xc3\xb6st:1", "a host has"},
        {"unix://", "absolute"},
        {"unix://rel/path", "absolute"},
        {"unix:///a\nb", "control"},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        struct pfl_addr a = {.port = 7};
        struct pfl_err err = {0};
        if (pfl_addr_parse(rows[i].text, &a, &err) != PFL_INVALID || !strstr(err.msg, rows[i].why) || a.port != 7)
            fail_msg("'%s': %s", rows[i].text, err.msg);
    }
    struct pfl_addr a;
    assert_int_equal(pfl_addr_parse(NULL, &a, NULL), PFL_INVALID);
}

static void test_addr_parse__too_long__refused(void **state)
{
    (void)state;
    char text[400] = "unix:///";
    struct pfl_addr a;
    memset(text + 8, 'a', 107);
    text[8 + 107] = '\0'; /* a path of 108 bytes */
    assert_int_equal(pfl_addr_parse(text, &a, NULL), PFL_INVALID);
    text[8 + 106] = '\0';
    assert_int_equal(pfl_addr_parse(text, &a, NULL), PFL_OK);
    assert_int_equal(strlen(a.path), 107);
    memset(text, 'a', 256);
    text[256] = '\0';
    assert_int_equal(pfl_addr_parse(text, &a, NULL), PFL_INVALID);
    text[255] = '\0';
    assert_int_equal(pfl_addr_parse(text, &a, NULL), PFL_OK);
}

static void test_addr_format__canonical(void **state)
{
    (void)state;
    static const struct {
        const char *text, *canonical;
        bool loopback;
    } rows[] = {
        {"127.0.0.1:6666", "127.0.0.1:6666", true},
        {"127.200.3.4:1", "127.200.3.4:1", true},
        {"10.0.0.1:65535", "10.0.0.1:65535", false},
        {"0.0.0.0:1", "0.0.0.0:1", false},
        {"[::1]:6666", "[::1]:6666", true},
        {"[0:0:0:0:0:0:0:1]:6666", "[::1]:6666", true},
        {"::1", "[::1]:0", true},
        {"[2001:DB8::0:1]", "[2001:db8::1]:0", false},
        {"[::]:1", "[::]:1", false},
        {"localhost:0", "localhost:0", true},
        {"LocalHost", "LocalHost:0", true},
        {"localhost.evil.example:1", "localhost.evil.example:1", false},
        {"node_1.example:6666", "node_1.example:6666", false},
        {"host", "host:0", false},
        {"unix:///run/p2pfl.sock", "unix:///run/p2pfl.sock", true},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        struct pfl_addr a;
        struct pfl_err err = {0};
        char out[PFL_ADDR_MAX + 16];
        if (pfl_addr_parse(rows[i].text, &a, &err) != PFL_OK)
            fail_msg("%s", err.msg);
        pfl_addr_format(&a, out);
        assert_string_equal(out, rows[i].canonical);
        if (pfl_addr_is_loopback(&a) != rows[i].loopback)
            fail_msg("%s: loopback", rows[i].text);
    }
}

static void test_addr_parse__fields(void **state)
{
    (void)state;
    struct pfl_addr a;
    assert_int_equal(pfl_addr_parse("[::1]:6666", &a, NULL), PFL_OK);
    assert_true(a.is_ipv6 && !a.is_ipv4 && !a.is_unix);
    assert_string_equal(a.host, "::1");
    assert_int_equal(a.port, 6666);
    assert_int_equal(pfl_addr_parse("10.1.2.3:80", &a, NULL), PFL_OK);
    assert_true(a.is_ipv4 && !a.is_ipv6 && !a.is_unix);
    assert_int_equal(pfl_addr_parse("unix:///x", &a, NULL), PFL_OK);
    assert_true(a.is_unix && !a.is_ipv4 && !a.is_ipv6);
    assert_string_equal(a.path, "/x");
    assert_string_equal(a.host, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addr_parse__refused_with_the_reason),
        cmocka_unit_test(test_addr_parse__too_long__refused),
        cmocka_unit_test(test_addr_format__canonical),
        cmocka_unit_test(test_addr_parse__fields),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
