/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tensor wire */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/fs.h"
#include "base/str.h"
#include "wire/pickle.h"

#define B(text) pfl_bytes_of(text, sizeof(text) - 1)

/* ---- refused: first of all, what would run something ---- */

#define REFUSE(name_, bytes_, rc_, word_) refuse(name_, B(bytes_), rc_, word_)

static void refuse(const char *name, struct pfl_bytes in, enum pfl_rc rc, const char *word)
{
    /* a copy of exactly the right size: a read behind it is seen by the sanitizer */
    PFL_AUTO(pfl_freep) uint8_t *copy = pfl_xcalloc(in.len ? in.len : 1, 1);
    if (in.len)
        memcpy(copy, in.data, in.len);
    struct pfl_pickle *p = NULL;
    struct pfl_err err = {0};
    enum pfl_rc got = pfl_pickle_read(pfl_bytes_of(copy, in.len), &p, &err);
    if (got != rc || p || !strstr(err.msg, word))
        fail_msg("%s: rc %d, '%s'; wanted %d with '%s'", name, (int)got, err.msg, (int)rc, word);
    assert_int_equal(pfl_pickle_read(pfl_bytes_of(copy, in.len), &p, NULL), rc);
}

static void test_read__names_that_could_run_something__refused_by_name(void **state)
{
    (void)state;
    REFUSE("os.system", "\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.", PFL_UNSUPPORTED, "posix.system");
    REFUSE("builtins.eval, protocol 2",
           "\x80\x02"
           "cbuiltins\neval\nX\x01\x00\x00\x00"
           "1\x85R.",
           PFL_UNSUPPORTED, "builtins.eval");
    REFUSE("subprocess", "\x80\x04\x8c\x0asubprocess\x8c\x05Popen\x93.", PFL_UNSUPPORTED, "subprocess.Popen");
    REFUSE("another codec",
           "\x80\x02"
           "c_codecs\nencode\nX\x01\x00\x00\x00"
           "1X\x03\x00\x00\x00zip\x86R.",
           PFL_UNSUPPORTED, "latin1");
    REFUSE("numpy.load",
           "\x80\x02"
           "cnumpy\nload\n.",
           PFL_UNSUPPORTED, "numpy.load");
    REFUSE("numpy.core.multiarray.fromfile",
           "\x80\x02"
           "cnumpy.core.multiarray\nfromfile\n.",
           PFL_UNSUPPORTED, "fromfile");
    REFUSE("the name goes on",
           "\x80\x02"
           "cnumpy\ndtypes\n.",
           PFL_UNSUPPORTED, "numpy.dtypes");
    REFUSE("bytes of a number",
           "\x80\x02"
           "c__builtin__\nbytes\nK\x05\x85R.",
           PFL_UNSUPPORTED, "without arguments");
    REFUSE("INST", "\x80\x02(S'id'\nios\nsystem\n.", PFL_UNSUPPORTED, "opcode 0x53");
    REFUSE("OBJ", "\x80\x02(o.", PFL_UNSUPPORTED, "opcode 0x6f");
    REFUSE("NEWOBJ",
           "\x80\x02"
           "cnumpy\nndarray\n)\x81.",
           PFL_UNSUPPORTED, "opcode 0x81");
    REFUSE("EXT1", "\x80\x02\x82\x01.", PFL_UNSUPPORTED, "opcode 0x82");
    REFUSE("PERSID", "\x80\x02Px\n.", PFL_UNSUPPORTED, "opcode 0x50");
    REFUSE("ndarray called",
           "\x80\x02"
           "cnumpy\nndarray\n)R.",
           PFL_UNSUPPORTED, "numpy.ndarray itself");
    REFUSE("reconstruct of a type",
           "\x80\x02"
           "cnumpy.core.multiarray\n_reconstruct\ncnumpy\ndtype\n\x85R.",
           PFL_UNSUPPORTED, "no ndarray");
    REFUSE("object arrays",
           "\x80\x02"
           "cnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R.",
           PFL_UNSUPPORTED, "type 'O8'");
    REFUSE("control characters in a name",
           "\x80\x02"
           "ca\x1b[2J\nb\n.",
           PFL_UNSUPPORTED, "nothing was run");
}

static void test_read__broken__refused(void **state)
{
    (void)state;
    REFUSE("empty", "", PFL_MALFORMED, "ends early");
    REFUSE("protocol 1", "\x80\x01N.", PFL_UNSUPPORTED, "protocol 1");
    REFUSE("protocol 6", "\x80\x06N.", PFL_UNSUPPORTED, "protocol 6");
    REFUSE("no STOP", "\x80\x04N", PFL_MALFORMED, "ends early");
    REFUSE("nothing left", "\x80\x04.", PFL_MALFORMED, "other than one value");
    REFUSE("two left", "\x80\x04NN.", PFL_MALFORMED, "other than one value");
    REFUSE("a mark left", "\x80\x04(N.", PFL_MALFORMED, "other than one value");
    REFUSE("more behind", "\x80\x04N.N", PFL_MALFORMED, "behind its end");
    REFUSE("pop below a mark", "\x80\x04]N(a.", PFL_MALFORMED, "stack is empty");
    REFUSE("tuple of too many", "\x80\x04N\x86.", PFL_MALFORMED, "stack is empty");
    REFUSE("no mark", "\x80\x04]Ne.", PFL_MALFORMED, "no mark");
    REFUSE("append to a dict", "\x80\x04}Na.", PFL_MALFORMED, "no list");
    REFUSE("appends below the bottom", "\x80\x04(e.", PFL_MALFORMED, "no list");
    REFUSE("a key without a value", "\x80\x04}(Nu.", PFL_MALFORMED, "without a value");
    REFUSE("memo of nothing", "\x80\x04\x94.", PFL_MALFORMED, "stack is empty");
    REFUSE("memo slot never put", "\x80\x04h\x05.", PFL_MALFORMED, "nothing was put");
    REFUSE("memo slot of 2^32", "\x80\x04Nr\xff\xff\xff\xff.", PFL_TOO_BIG, "memo slot 4294967295");
    REFUSE("string of 4 GB",
           "\x80\x04X\xff\xff\xff\xff"
           "a.",
           PFL_MALFORMED, "beyond the end");
    REFUSE("bytes of 2^63",
           "\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f"
           "a.",
           PFL_MALFORMED, "beyond the end");
    REFUSE("frame of 2^64", "\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xffN.", PFL_MALFORMED, "frame");
    REFUSE("integer of 9 bytes",
           "\x80\x04\x8a\x09"
           "123456789.",
           PFL_TOO_BIG, "9 bytes");
    REFUSE("a line without an end",
           "\x80\x04"
           "cnumpy",
           PFL_MALFORMED, "line without an end");
    REFUSE("call of a number", "\x80\x04K\x01)R.", PFL_MALFORMED, "cannot be called");
    REFUSE("call with a list",
           "\x80\x02"
           "cnumpy\ndtype\n]R.",
           PFL_MALFORMED, "cannot be called");
    REFUSE("state for a list", "\x80\x04])b.", PFL_UNSUPPORTED, "no new array");
    REFUSE("global of numbers", "\x80\x04K\x01K\x02\x93.", PFL_MALFORMED, "no string");
}

/* numpy.core.numeric._frombuffer(bytes, dtype, shape, order) */
#define FROMBUFFER                                                                                                                 \
    "\x80\x02"                                                                                                                     \
    "cnumpy.core.numeric\n_frombuffer\n("
#define F4                                                                                                                         \
    "cnumpy\ndtype\nX\x02\x00\x00\x00"                                                                                             \
    "f4\x85R"

static void test_read__bad_arrays__refused(void **state)
{
    (void)state;
    REFUSE("too few bytes",
           FROMBUFFER "C\x04"
                      "1234" F4 "K\x02\x85X\x01\x00\x00\x00"
                      "CtR.",
           PFL_MALFORMED, "2 elements of 4 bytes has 4");
    REFUSE("too many bytes",
           FROMBUFFER "C\x04"
                      "1234" F4 "K\x00\x85X\x01\x00\x00\x00"
                      "CtR.",
           PFL_MALFORMED, "0 elements of 4 bytes has 4");
    REFUSE("negative size",
           FROMBUFFER "C\x04"
                      "1234" F4 "J\xff\xff\xff\xff\x85X\x01\x00\x00\x00"
                      "CtR.",
           PFL_MALFORMED, "sizes");
    REFUSE("size overflows",
           FROMBUFFER "C\x04"
                      "1234" F4 "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7fK\x04\x86X\x01\x00\x00\x00"
                      "CtR.",
           PFL_MALFORMED, "overflows");
    REFUSE("order Q",
           FROMBUFFER "C\x04"
                      "1234" F4 "K\x01\x85X\x01\x00\x00\x00QtR.",
           PFL_MALFORMED, "an order");
    REFUSE("9 dimensions",
           FROMBUFFER "C\x04"
                      "1234" F4 "(K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01tX\x01\x00\x00\x00"
                      "CtR.",
           PFL_TOO_BIG, "9 dimensions");
    REFUSE("bytes that are a string",
           FROMBUFFER "X\x04\x00\x00\x00"
                      "1234" F4 "K\x01\x85X\x01\x00\x00\x00"
                      "CtR.",
           PFL_MALFORMED, "bytes");
}

static void test_read__floods__end_at_their_limit(void **state)
{
    (void)state;
    size_t n = (size_t)PFL_PICKLE_VALUES_MAX + 10;
    PFL_AUTO(pfl_freep) uint8_t *in = pfl_xcalloc(2 * n + 4, 1);
    struct pfl_pickle *p = NULL;
    struct pfl_err err = {0};
    memset(in, 'N', n);
    assert_int_equal(pfl_pickle_read(pfl_bytes_of(in, n), &p, &err), PFL_TOO_BIG);
    assert_non_null(strstr(err.msg, "on the stack"));
    memset(in, '(', n);
    assert_int_equal(pfl_pickle_read(pfl_bytes_of(in, n), &p, &err), PFL_TOO_BIG);
    assert_non_null(strstr(err.msg, "marks"));
    in[0] = ']';
    for (size_t i = 0; i < n; i++)
        memcpy(in + 1 + 2 * i, "Na", 2);
    assert_int_equal(pfl_pickle_read(pfl_bytes_of(in, 2 * n), &p, &err), PFL_TOO_BIG);
    in[1] = 'q'; /* one memo slot, appended for ever: lists share their values, not their items */
    in[2] = 0;
    for (size_t i = 0; i + 3 < 2 * n; i += 3)
        memcpy(in + 3 + i, "h\0a", i + 6 < 2 * n ? 3 : 0);
    assert_int_equal(pfl_pickle_read(pfl_bytes_of(in, 2 * n), &p, &err) == PFL_OK, false);
}

/* A list that holds itself, and laughs doubled forty times over: read, and freed, in no time. */
static void test_read__cycles_and_doublings__cost_what_they_weigh(void **state)
{
    (void)state;
    PFL_AUTO(pfl_pickle_freep) struct pfl_pickle *p = NULL;
    assert_int_equal(pfl_pickle_read(B("\x80\x04]\x94h\x00"
                                       "a."),
                                     &p, NULL),
                     PFL_OK);
    assert_ptr_equal(pfl_py_at(pfl_pickle_root(p), 0), pfl_pickle_root(p));

    uint8_t in[512] = {0x80, 4, 'N', 0x94};
    size_t at = 4;
    for (unsigned i = 0; i < 40; i++) {
        const uint8_t twice[] = {'h', (uint8_t)i, 0x86, 0x94};
        memcpy(in + at, twice, sizeof(twice)); /* (x, x) of the one before: TUPLE2 of the top and its memo */
        at += sizeof(twice);
    }
    in[at++] = '.';
    PFL_AUTO(pfl_pickle_freep) struct pfl_pickle *laughs = NULL;
    assert_int_equal(pfl_pickle_read(pfl_bytes_of(in, at), &laughs, NULL), PFL_OK);
    assert_int_equal(pfl_py_n(pfl_pickle_root(laughs)), 2);
}

/* ---- read ---- */

static void test_read__values(void **state)
{
    (void)state;
    PFL_AUTO(pfl_pickle_freep) struct pfl_pickle *p = NULL;
    /* {'a': [1, -2, 65535, True, None, 1.5, -3 (long), b'xy'], 'b': (), 'a' again below} */
    assert_int_equal(pfl_pickle_read(B("\x80\x04}(\x8c\x01"
                                       "a](K\x01J\xfe\xff\xff\xffM\xff\xff\x88NG\x3f\xf8\x00\x00\x00\x00\x00\x00"
                                       "\x8a\x01\xfd"
                                       "C\x02xye\x8c\x01"
                                       "b)K\x07K\x08u."),
                                     &p, NULL),
                     PFL_OK);
    const struct pfl_py *a = pfl_py_get(pfl_pickle_root(p), "a");
    int64_t i = 0;
    double d = 0;
    assert_int_equal(pfl_py_n(a), 8);
    assert_true(pfl_py_integer(pfl_py_at(a, 0), &i) && i == 1);
    assert_true(pfl_py_integer(pfl_py_at(a, 1), &i) && i == -2);
    assert_true(pfl_py_integer(pfl_py_at(a, 2), &i) && i == 65535);
    assert_true(pfl_py_integer(pfl_py_at(a, 3), &i) && i == 1);
    assert_int_equal(pfl_py_at(a, 4)->kind, PFL_PY_NONE);
    assert_true(pfl_py_number(pfl_py_at(a, 5), &d) && d == 1.5);
    assert_true(pfl_py_integer(pfl_py_at(a, 6), &i) && i == -3);
    assert_true(pfl_py_at(a, 7)->kind == PFL_PY_BYTES && pfl_py_at(a, 7)->bytes.len == 2);
    assert_true(pfl_py_get(pfl_pickle_root(p), "b")->kind == PFL_PY_TUPLE);
    assert_true(pfl_py_integer(pfl_py_get_index(pfl_pickle_root(p), 7), &i) && i == 8);
    assert_null(pfl_py_get(pfl_pickle_root(p), "c"));
    assert_null(pfl_py_at(a, 8));
}

static void test_read__byte_orders_and_fortran_order(void **state)
{
    (void)state;
    /* >i2, shape (2, 3), Fortran: [[1, 3, 5], [2, 4, -6]] */
    PFL_AUTO(pfl_pickle_freep) struct pfl_pickle *p = NULL;
    struct pfl_err err = {0};
    if (pfl_pickle_read(B(FROMBUFFER
                          "C\x0c\x00\x01\x00\x02\x00\x03\x00\x04\x00\x05\xff\xfa"
                          "cnumpy\ndtype\nX\x02\x00\x00\x00i2"
                          "\x85R(K\x03X\x01\x00\x00\x00>NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tbK\x02K\x03\x86X\x01\x00\x00\x00"
                          "FtR."),
                        &p, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    static const int64_t want[] = {1, 3, 5, 2, 4, -6};
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(pfl_py_element_integer(pfl_pickle_root(p), i), want[i]);
        assert_true(pfl_py_element(pfl_pickle_root(p), i) == (double)want[i]);
    }
}

static void test_read__half_precision(void **state)
{
    (void)state;
    PFL_AUTO(pfl_pickle_freep) struct pfl_pickle *p = NULL;
    assert_int_equal(pfl_pickle_read(B(FROMBUFFER "C\x0c\x00\x3c\x01\x00\x00\x7c\x00\xfc\x00\x7e\xff\x7b"
                                                  "cnumpy\ndtype\nX\x02\x00\x00\x00"
                                                  "f2\x85RK\x06\x85X\x01\x00\x00\x00"
                                                  "CtR."),
                                     &p, NULL),
                     PFL_OK);
    const struct pfl_py *a = pfl_pickle_root(p);
    assert_true(pfl_py_element(a, 0) == 1.0 && pfl_py_element(a, 1) == ldexp(1, -24));
    assert_true(isinf(pfl_py_element(a, 2)) && pfl_py_element(a, 3) < 0 && isnan(pfl_py_element(a, 4)));
    assert_true(pfl_py_element(a, 5) == 65504.0);
}

static size_t unhex(const char *hex, uint8_t *out)
{
    size_t n = strlen(hex) / 2;
    for (size_t i = 0; i < n; i++) {
        unsigned byte;
        char two[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        byte = (unsigned)strtoul(two, NULL, 16);
        out[i] = (uint8_t)byte;
    }
    return n;
}

/* Every pickle that a P2PFL node was seen to write is read. */
static void test_read__p2pfl_s_own(void **state)
{
    (void)state;
    json_t *all = json_load_file(PFL_TEST_FIXTURES "/p2pfl-pickles.json", 0, NULL);
    assert_true(json_array_size(all) > 10);
    size_t at;
    json_t *v;
    json_array_foreach (all, at, v) {
        const char *hex = json_string_value(json_object_get(v, "hex"));
        PFL_AUTO(pfl_freep) uint8_t *in = pfl_xcalloc(strlen(hex) / 2 + 1, 1);
        PFL_AUTO(pfl_pickle_freep) struct pfl_pickle *p = NULL;
        struct pfl_err err = {0};
        if (pfl_pickle_read(pfl_bytes_of(in, unhex(hex, in)), &p, &err) != PFL_OK)
            fail_msg("%s: %s", json_string_value(json_object_get(v, "case")), err.msg);
        assert_int_equal(pfl_pickle_root(p)->kind, PFL_PY_DICT);
        bool outer = pfl_py_get(pfl_pickle_root(p), "byte_compressor") != NULL;
        assert_true(outer || pfl_py_n(pfl_py_get(pfl_pickle_root(p), "params")) > 0);
    }
    json_decref(all);
}

/* Cut short anywhere, and with any one byte changed, it is read or refused, never more. */
static void test_read__every_cut_and_change__no_harm(void **state)
{
    (void)state;
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *b = NULL;
    assert_int_equal(pfl_fs_read(PFL_TEST_FIXTURES "/p2pfl-payloads/plain_protocol2.pkl", 1 << 20, &b, NULL), PFL_OK);
    for (size_t n = 0; n < b->len; n++) {
        PFL_AUTO(pfl_freep) uint8_t *cut = pfl_xcalloc(n + 1, 1);
        memcpy(cut, b->data, n);
        PFL_AUTO(pfl_pickle_freep) struct pfl_pickle *p = NULL;
        assert_true(pfl_pickle_read(pfl_bytes_of(cut, n), &p, NULL) != PFL_OK);
        for (unsigned flip = 1; flip < 256; flip <<= 1) {
            PFL_AUTO(pfl_freep) uint8_t *changed = pfl_xcalloc(b->len, 1);
            memcpy(changed, b->data, b->len);
            changed[n] ^= (uint8_t)flip;
            PFL_AUTO(pfl_pickle_freep) struct pfl_pickle *q = NULL;
            assert_true(pfl_pickle_read(pfl_bytes_of(changed, b->len), &q, NULL) != PFL_OK || pfl_pickle_root(q));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read__names_that_could_run_something__refused_by_name),
        cmocka_unit_test(test_read__broken__refused),
        cmocka_unit_test(test_read__bad_arrays__refused),
        cmocka_unit_test(test_read__floods__end_at_their_limit),
        cmocka_unit_test(test_read__cycles_and_doublings__cost_what_they_weigh),
        cmocka_unit_test(test_read__values),
        cmocka_unit_test(test_read__byte_orders_and_fortran_order),
        cmocka_unit_test(test_read__half_precision),
        cmocka_unit_test(test_read__p2pfl_s_own),
        cmocka_unit_test(test_read__every_cut_and_change__no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
