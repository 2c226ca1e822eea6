/* SPDX-License-Identifier: Apache-2.0 */
/* link: runtime */
/* The record of a run, its summary and its report, from recorded events and from hostile ones. With an argument the program writes
 * the report of an event file instead of testing: for looking at it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fs.h"
#include "runtime/run_chart.h"
#include "runtime/run_report.h"
#include "runtime/run_summary.h"

static bool feed(struct pfl_record *r, const char *line)
{
    json_error_t e;
    json_t *event = json_loads(line, 0, &e);
    assert_non_null(event);
    bool taken = pfl_record_event(r, event);
    json_decref(event);
    return taken;
}

static struct pfl_record *record_of_file(const char *path)
{
    struct pfl_err err = {0};
    struct pfl_blob *blob = NULL;
    struct pfl_strs lines = {0};
    struct pfl_record *r = pfl_record_new("Fashion-MNIST");
    if (pfl_fs_read(path, 64 << 20, &blob, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    pfl_strs_split(&lines, (const char *)blob->data, '\n');
    for (size_t i = 0; i < lines.n; i++) {
        json_error_t e;
        json_t *event = lines.items[i][0] ? json_loads(lines.items[i], 0, &e) : NULL;
        const char *node = json_string_value(json_object_get(event, "node"));
        if (node && !pfl_record_node(r, node))
            pfl_record_add_node(r, node, NULL);
        if (event)
            assert_true(pfl_record_event(r, event));
        json_decref(event);
    }
    pfl_strs_deinit(&lines);
    pfl_blob_unref(blob);
    return r;
}

static struct pfl_record *sample(void)
{
    struct pfl_record *r = record_of_file(PFL_TEST_FIXTURES "/run/events.jsonl");
    r->tls = true;
    r->epochs = 1;
    r->trainset_size = 4;
    r->seed = 666;
    r->start_t = 1795400000.0;
    free(r->topology);
    r->topology = pfl_xstrdup("star");
    free(r->config_text);
    r->config_text = pfl_xstrdup("experiment:\n  name: fashion-mnist\n");
    free(r->versions);
    r->versions = pfl_xstrdup("p2pfl 0.1.0");
    pfl_record_close(r, 1795400017.5);
    return r;
}

static struct pfl_record *two_nodes(void)
{
    struct pfl_record *r = pfl_record_new("two");
    pfl_record_add_node(r, "a", "127.0.0.1:1");
    pfl_record_add_node(r, "b", "127.0.0.1:2");
    return r;
}

static void test_record_event__foreign_or_senseless__changes_nothing(void **state)
{
    (void)state;
    struct pfl_record *r = two_nodes();
    assert_false(feed(r, "{\"node\":\"mallory\",\"event\":\"learning_finished\",\"t\":1}"));
    assert_false(feed(r, "{\"event\":\"metrics\"}"));
    assert_false(feed(r, "[1]"));
    assert_false(feed(r, "{\"node\":7,\"event\":\"metrics\"}"));
    /* Known kinds with fields of the wrong type or size: taken for what they say, which is nothing. */
    assert_true(feed(r, "{\"node\":\"a\",\"event\":\"metrics\",\"round\":2000000000,\"address\":\"127.0.0.1:1\",\"loss\":1}"));
    assert_true(feed(r, "{\"node\":\"a\",\"event\":\"round_finished\",\"round\":-1,\"bytes_sent\":-5}"));
    assert_true(feed(r, "{\"node\":\"a\",\"event\":\"train_set\",\"round\":\"x\",\"members\":7}"));
    assert_true(feed(r, "{\"node\":\"a\",\"event\":\"learning_finished\",\"digest\":[],\"rounds\":99999999999,\"loss\":\"low\"}"));
    assert_int_equal(r->nodes[0].n_points, 0);
    assert_int_equal(r->n_train_sets, 0);
    assert_int_equal(r->nodes[0].rounds_done, 0);
    assert_true(isnan(r->nodes[0].loss));
    pfl_record_close(r, 2);
    assert_false(r->identical);
    assert_false(r->finished);
    pfl_record_free(r);
}

static void test_record_event__others_metrics__are_not_taken_for_own(void **state)
{
    (void)state;
    struct pfl_record *r = two_nodes();
    feed(r, "{\"node\":\"a\",\"event\":\"metrics\",\"round\":0,\"address\":\"127.0.0.1:2\",\"loss\":1,\"accuracy\":0.99}");
    assert_true(isnan(r->nodes[0].accuracy));
    assert_true(isnan(r->nodes[1].accuracy));
    feed(r, "{\"node\":\"a\",\"event\":\"metrics\",\"round\":0,\"address\":\"127.0.0.1:1\",\"loss\":1,\"accuracy\":0.5}");
    assert_true(fabs(r->nodes[0].accuracy - 0.5) < 1e-12);
    pfl_record_free(r);
}

static void finish(struct pfl_record *r, const char *node, const char *digest)
{
    char line[256];
    (void)snprintf(
        line, sizeof(line),
        "{\"node\":\"%s\",\"event\":\"learning_finished\",\"t\":9,\"rounds\":2,\"accuracy\":0.9,\"loss\":0.2,\"digest\":\"%s\"}",
        node, digest);
    assert_true(feed(r, line));
}

static void test_record_close__models__decide_identical_and_finished(void **state)
{
    (void)state;
    static const struct {
        const char *name, *a, *b, *file_b, *lost_b;
        bool failure, identical, finished;
    } rows[] = {
        {"equal", "aa", "aa", "aa", NULL, false, true, true},
        {"differ", "aa", "bb", "bb", NULL, false, false, false},
        {"one not finished", "aa", NULL, NULL, NULL, false, false, false},
        {"file is another", "aa", "aa", "cc", NULL, false, false, false},
        {"one lost", "aa", NULL, NULL, "killed by signal 9", false, true, true},
        {"lost after the end with another model", "aa", "bb", NULL, "killed", false, true, true},
        {"the run failed otherwise", "aa", "aa", "aa", NULL, true, true, false},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        struct pfl_record *r = two_nodes();
        finish(r, "a", rows[i].a);
        if (rows[i].b)
            finish(r, "b", rows[i].b);
        if (rows[i].file_b)
            (void)snprintf(r->nodes[1].file_digest, sizeof(r->nodes[1].file_digest), "%s", rows[i].file_b);
        if (rows[i].lost_b)
            pfl_record_lost(r, 9, 1, rows[i].lost_b);
        if (rows[i].failure)
            pfl_record_failure(r, 3, "the impostor got in");
        pfl_record_close(r, 10);
        if (r->identical != rows[i].identical || r->finished != rows[i].finished)
            fail_msg("%s: identical %d, finished %d", rows[i].name, r->identical, r->finished);
        pfl_record_free(r);
    }
}

static void test_record_round_traffic__cumulative_counters__gives_differences(void **state)
{
    (void)state;
    struct pfl_record *r = two_nodes();
    struct pfl_rec_counters c;
    feed(r, "{\"node\":\"a\",\"event\":\"round_finished\",\"round\":0,\"bytes_sent\":100,\"messages_sent\":4}");
    feed(r, "{\"node\":\"a\",\"event\":\"round_finished\",\"round\":1,\"bytes_sent\":250,\"messages_sent\":9}");
    feed(r, "{\"node\":\"a\",\"event\":\"round_finished\",\"round\":2,\"bytes_sent\":10,\"messages_sent\":9}");
    feed(r, "{\"node\":\"a\",\"event\":\"round_finished\",\"round\":4,\"bytes_sent\":900,\"messages_sent\":9}");
    assert_true(pfl_record_round_traffic(r, 0, 0, &c));
    assert_int_equal(c.bytes_sent, 100);
    assert_true(pfl_record_round_traffic(r, 0, 1, &c));
    assert_int_equal(c.bytes_sent, 150);
    assert_int_equal(c.messages_sent, 5);
    assert_false(pfl_record_round_traffic(r, 0, 2, &c)); /* it went down */
    assert_false(pfl_record_round_traffic(r, 0, 4, &c)); /* the round before is not known */
    assert_false(pfl_record_round_traffic(r, 0, 9, &c));
    assert_false(pfl_record_round_traffic(r, 1, 0, &c));
    pfl_record_free(r);
}

static void test_summary_json__recorded_run__has_the_promised_fields(void **state)
{
    (void)state;
    struct pfl_record *r = sample();
    json_t *s = pfl_summary_json(r);
    assert_true(json_is_true(json_object_get(s, "finished")));
    assert_int_equal(json_integer_value(json_object_get(s, "rounds")), 5);
    assert_true(fabs(json_real_value(json_object_get(s, "wall_s")) - 17.5) < 1e-6);
    json_t *nodes = json_object_get(s, "nodes");
    assert_int_equal(json_array_size(nodes), 4);
    json_int_t sum = 0;
    for (size_t i = 0; i < 4; i++) {
        json_t *n = json_array_get(nodes, i);
        assert_true(json_real_value(json_object_get(n, "accuracy")) > 0.85);
        assert_int_equal(strlen(json_string_value(json_object_get(n, "model_sha256"))), 64);
        assert_int_equal(json_integer_value(json_object_get(n, "rounds")), 5);
        sum += json_integer_value(json_object_get(n, "bytes_sent"));
    }
    assert_string_equal(json_string_value(json_object_get(json_array_get(nodes, 3), "address")), "127.0.0.1:21663");
    assert_true(sum > 0 && sum == json_integer_value(json_object_get(s, "bytes_sent")));
    json_t *refused = json_array_get(json_object_get(s, "refused"), 0);
    assert_string_equal(json_string_value(json_object_get(refused, "by")), "node-1");
    assert_string_equal(json_string_value(json_object_get(refused, "peer")), "spiffe://p2pfl/node/mallory");
    json_decref(s);
    pfl_record_free(r);
}

static void test_summary_json__nothing_known__is_null_not_a_number(void **state)
{
    (void)state;
    struct pfl_record *r = two_nodes();
    pfl_record_lost(r, 1, 1, "exited with code 3");
    pfl_record_close(r, 1);
    json_t *s = pfl_summary_json(r);
    assert_true(json_is_false(json_object_get(s, "finished")));
    json_t *n = json_array_get(json_object_get(s, "nodes"), 1);
    assert_true(json_is_null(json_object_get(n, "accuracy")));
    assert_true(json_is_null(json_object_get(n, "model_sha256")));
    assert_string_equal(json_string_value(json_object_get(n, "lost")), "exited with code 3");
    json_decref(s);
    pfl_record_free(r);
}

static void test_summary_metrics__recorded_run__one_json_line_per_node_and_round(void **state)
{
    (void)state;
    struct pfl_record *r = sample();
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf out = {0};
    struct pfl_strs lines = {0};
    pfl_summary_metrics(r, &out);
    pfl_strs_split(&lines, pfl_buf_cstr(&out), '\n');
    assert_int_equal(lines.n, 4 * 6 + 1);
    json_error_t e;
    json_t *first = json_loads(lines.items[1], 0, &e);
    assert_int_equal(json_integer_value(json_object_get(first, "round")), 1);
    assert_int_equal(json_integer_value(json_object_get(first, "fit_samples")), 15000);
    assert_true(json_real_value(json_object_get(first, "test_accuracy")) > 0.7);
    json_decref(first);
    pfl_strs_deinit(&lines);
    pfl_record_free(r);
}

static void test_summary_text__recorded_run__says_what_people_ask(void **state)
{
    (void)state;
    struct pfl_record *r = sample();
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf out = {0};
    pfl_summary_text(r, &out);
    const char *text = pfl_buf_cstr(&out);
    assert_non_null(strstr(text, "accuracy 87.5 %"));
    assert_non_null(strstr(text, "all 4 models are identical: sha256 "));
    assert_non_null(
        strstr(text, "refused: node-1 turned away 'spiffe://p2pfl/node/mallory' (127.0.0.1:53122): certificate is signed by"));
    pfl_record_free(r);
}

static size_t count(const char *text, const char *what)
{
    size_t n = 0;
    for (const char *p = text; (p = strstr(p, what)) != NULL; p += strlen(what))
        n++;
    return n;
}

static void test_report__recorded_run__shows_its_figures_and_asks_for_nothing(void **state)
{
    (void)state;
    struct pfl_record *r = sample();
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf out = {0};
    pfl_report_html(r, &out);
    const char *page = pfl_buf_cstr(&out);
    assert_false(out.failed);
    assert_int_equal(count(page, "<figure"), 6);
    assert_int_equal(count(page, "</svg>"), 6);
    assert_non_null(strstr(page, "87.5 %"));
    assert_non_null(strstr(page, "All 4 final models are identical"));
    assert_non_null(strstr(page, r->nodes[0].digest));
    assert_int_equal(count(page, "TLS_AES_256_GCM_SHA384"), 6); /* a star of four: three links, each seen from both ends */
    assert_non_null(strstr(page, "spiffe://p2pfl/node/node-3"));
    assert_non_null(strstr(page, "2028-"));
    assert_non_null(strstr(page, "spiffe://p2pfl/node/mallory"));
    assert_non_null(strstr(page, "certificate is signed by &#39;CN=Mallory CA&#39;"));
    assert_non_null(strstr(page, "node-1, node-2, node-3, node-4</td>"));
    assert_non_null(strstr(page, "name: fashion-mnist"));
    assert_null(strstr(page, "<script"));
    assert_null(strstr(page, "http://"));
    assert_null(strstr(page, "https://"));
    assert_null(strstr(page, "nan"));
    pfl_record_free(r);
}

static void test_report__hostile_text_everywhere__stays_text(void **state)
{
    (void)state;
    static const char evil[] = "<script>alert(1)</script>";
    struct pfl_record *r = pfl_record_new(evil);
    pfl_record_add_node(r, evil, NULL);
    static const char *const events[] = {
        "\"event\":\"started\",\"address\":\"X\"",
        "\"event\":\"learning_started\",\"rounds\":1,\"t\":1",
        "\"event\":\"stage\",\"stage\":\"X\",\"t\":1,\"round\":0",
        "\"event\":\"neighbour\",\"address\":\"X\",\"identity\":\"X\",\"fingerprint\":\"X\",\"tls\":\"X\",\"cipher\":\"X\","
        "\"expires\":\"X\"",
        "\"event\":\"neighbour_lost\",\"address\":\"X\",\"reason\":\"X\"",
        "\"event\":\"refused\",\"peer\":\"X\",\"remote\":\"X\",\"reason\":\"X\"",
        "\"event\":\"train_set\",\"round\":0,\"members\":[\"X\"]",
        "\"event\":\"excluded\",\"round\":0,\"address\":\"X\",\"reason\":\"X\"",
        "\"event\":\"aggregated\",\"round\":0,\"contributors\":[\"X\"],\"digest\":\"X\"",
        "\"event\":\"warning\",\"address\":\"X\",\"text\":\"X\"",
        "\"event\":\"metrics\",\"round\":0,\"address\":\"X\",\"loss\":1,\"accuracy\":0.5",
        "\"event\":\"fit\",\"round\":0,\"loss\":1,\"samples\":5",
        "\"event\":\"learning_finished\",\"digest\":\"X\",\"rounds\":1,\"t\":2",
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(events); i++) {
        PFL_AUTO(pfl_buf_deinit) struct pfl_buf line = {0};
        pfl_buf_printf(&line, "{\"node\":\"%s\",", evil);
        for (const char *p = events[i]; *p; p++) {
            if (*p == 'X')
                pfl_buf_append_str(&line, evil);
            else
                pfl_buf_append(&line, p, 1);
        }
        pfl_buf_append_str(&line, "}");
        assert_true(feed(r, pfl_buf_cstr(&line)));
    }
    pfl_record_failure(r, 1, evil);
    pfl_record_lost(r, 2, 0, evil);
    char **fields[] = {&r->topology, &r->versions, &r->config_text, &r->final_model};
    for (size_t i = 0; i < PFL_ARRAY_LEN(fields); i++) {
        free(*fields[i]);
        *fields[i] = pfl_xstrdup(evil);
    }
    pfl_record_close(r, 3);
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf out = {0};
    pfl_report_html(r, &out);
    const char *page = pfl_buf_cstr(&out);
    assert_null(strstr(page, "<script"));
    assert_true(count(page, "&lt;script&gt;") >= 20);
    pfl_record_free(r);
}

static void test_html_text__special_and_broken_bytes__are_made_harmless(void **state)
{
    (void)state;
    static const struct {
        const char *in, *want;
    } rows[] = {
        {"", ""},
        {"a<b>&\"'", "a&lt;b&gt;&amp;&quot;&#39;"},
        {"tab\tline\n", "tab\tline\n"},
        {"bell\a", "bell\xef\xbf\xbd"},
        {"\xc3\xa9", "\xc3\xa9"},
        {"\xff<", "\\xff&lt;"},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        PFL_AUTO(pfl_buf_deinit) struct pfl_buf out = {0};
        pfl_html_text(&out, rows[i].in);
        assert_string_equal(pfl_buf_cstr(&out), rows[i].want);
    }
}

static void test_chart_value__units__read_well(void **state)
{
    (void)state;
    static const struct {
        enum pfl_chart_unit unit;
        double v;
        const char *want;
    } rows[] = {
        {PFL_CHART_PERCENT, 0.8749, "87.5 %"},
        {PFL_CHART_BYTES, 941, "941 B"},
        {PFL_CHART_BYTES, 12345678, "12.3 MB"},
        {PFL_CHART_BYTES, 2e6, "2 MB"},
        {PFL_CHART_COUNT, 1234567, "1,234,567"},
        {PFL_CHART_COUNT, 12, "12"},
        {PFL_CHART_NUMBER, 0.12345, "0.123"},
        {PFL_CHART_COUNT, -3, "0"},
        {PFL_CHART_NUMBER, NAN, "–"},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        char text[32];
        pfl_chart_value(rows[i].unit, rows[i].v, text, sizeof(text));
        assert_string_equal(text, rows[i].want);
    }
}

static void test_chart_lines__equal_series__share_a_line(void **state)
{
    (void)state;
    static const double a[] = {0.1, 0.5, NAN, 0.9}, b[] = {0.1, 0.5, NAN, 0.9}, c[] = {0.2, 0.5, 0.6, 0.9};
    const struct pfl_chart_series series[] = {{"n1", a}, {"n2", b}, {"n3", c}};
    struct pfl_chart chart = {.title = "t", .x_label = "round", .n_x = 4, .n_series = 3, .series = series};
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf out = {0};
    pfl_chart_lines(&out, &chart);
    assert_int_equal(count(pfl_buf_cstr(&out), "class=\"line c"), 2);
    assert_non_null(strstr(pfl_buf_cstr(&out), "n1, n2 (same values)"));
    pfl_buf_clear(&out);
    chart.n_x = 1; /* one place, and a place without any value */
    pfl_chart_lines(&out, &chart);
    pfl_chart_bars(&out, &chart);
    static const double none[] = {NAN};
    const struct pfl_chart_series empty[] = {{"n1", none}};
    chart.series = empty;
    chart.n_series = 1;
    pfl_chart_lines(&out, &chart);
    pfl_chart_bars(&out, &chart);
    assert_int_equal(count(pfl_buf_cstr(&out), "no values"), 2);
    assert_null(strstr(pfl_buf_cstr(&out), "nan"));
    assert_null(strstr(pfl_buf_cstr(&out), "inf"));
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        struct pfl_record *r = record_of_file(argv[1]);
        PFL_AUTO(pfl_buf_deinit) struct pfl_buf out = {0};
        r->tls = true;
        r->start_t = r->learn_t - 0.5;
        pfl_record_close(r, r->learn_t + pfl_record_learn_s(r));
        pfl_report_html(r, &out);
        fputs(pfl_buf_cstr(&out), stdout);
        pfl_record_free(r);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_record_event__foreign_or_senseless__changes_nothing),
        cmocka_unit_test(test_record_event__others_metrics__are_not_taken_for_own),
        cmocka_unit_test(test_record_close__models__decide_identical_and_finished),
        cmocka_unit_test(test_record_round_traffic__cumulative_counters__gives_differences),
        cmocka_unit_test(test_summary_json__recorded_run__has_the_promised_fields),
        cmocka_unit_test(test_summary_json__nothing_known__is_null_not_a_number),
        cmocka_unit_test(test_summary_metrics__recorded_run__one_json_line_per_node_and_round),
        cmocka_unit_test(test_summary_text__recorded_run__says_what_people_ask),
        cmocka_unit_test(test_report__recorded_run__shows_its_figures_and_asks_for_nothing),
        cmocka_unit_test(test_report__hostile_text_everywhere__stays_text),
        cmocka_unit_test(test_html_text__special_and_broken_bytes__are_made_harmless),
        cmocka_unit_test(test_chart_value__units__read_well),
        cmocka_unit_test(test_chart_lines__equal_series__share_a_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
