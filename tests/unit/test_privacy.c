/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tensor learning */
/* The accountant beside closed forms and published figures. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "learning/privacy.h"

static void close_to(double got, double want, double relative)
{
    if (fabs(got - want) > relative * fabs(want))
        fail_msg("%.9g, %.9g is expected", got, want);
}

/* Abadi et al. 2016, section 3.2: q = 0.01, sigma = 4, delta = 1e-5: (1.26, 1e-5) after 10,000 steps (100 epochs), and the same
 * setup in the text's figure 2. */
static void test_rdp__abadi_2016__1_26(void **state)
{
    (void)state;
    struct pfl_rdp r = {0};
    pfl_rdp_add_sampled_gaussian(&r, 4.0, 0.01, 10000);
    close_to(pfl_rdp_epsilon(&r, 1e-5), 1.26, 0.01);
}

/* The best order of T releases has a closed form: T / (2 s^2) + sqrt(2 T ln(1/delta)) / s. */
static void test_rdp__gaussian__closed_form(void **state)
{
    (void)state;
    static const double sigmas[] = {0.8, 1.0, 2.0, 5.0, 20.0};
    static const unsigned releases[] = {1, 3, 20, 100};
    for (size_t i = 0; i < 5; i++) {
        for (size_t k = 0; k < 4; k++) {
            struct pfl_rdp r = {0};
            for (unsigned n = 0; n < releases[k]; n++)
                pfl_rdp_add_gaussian(&r, sigmas[i]);
            double t = releases[k], s = sigmas[i], want = t / (2 * s * s) + sqrt(2 * t * log(1e5)) / s,
                   got = pfl_rdp_epsilon(&r, 1e-5);
            assert_true(got >= want * (1 - 1e-12)); /* a grid of orders never finds less than the best one */
            close_to(got, want, want > 60 ? 0.05 : 0.02);
        }
    }
}

/* Mironov 2017, Table II: as the order grows, Laplace's RDP becomes its epsilon, 1 / scale; the basic composition is its bound. */
static void test_rdp__laplace__pure_epsilon_is_the_bound(void **state)
{
    (void)state;
    struct pfl_rdp r = {0};
    pfl_rdp_add_laplace(&r, 2.0);
    close_to(r.at[PFL_RDP_ORDERS - 1], 0.5, 0.003);
    double a = pfl_rdp_order(3);
    assert_true(a == 2.0);
    close_to(r.at[3], log(2.0 / 3.0 * exp(0.5) + 1.0 / 3.0 * exp(-1.0)), 1e-12);
    for (unsigned n = 1; n < 100; n++)
        pfl_rdp_add_laplace(&r, 2.0);
    assert_true(pfl_rdp_epsilon(&r, 1e-5) < 50.0); /* which a sum of epsilons gives */
}

static void test_rdp__sampling__less_than_without(void **state)
{
    (void)state;
    struct pfl_rdp all = {0}, tenth = {0}, plain = {0};
    pfl_rdp_add_sampled_gaussian(&all, 1.5, 1.0, 7);
    pfl_rdp_add_sampled_gaussian(&tenth, 1.5, 0.1, 7);
    for (unsigned n = 0; n < 7; n++)
        pfl_rdp_add_gaussian(&plain, 1.5);
    close_to(pfl_rdp_epsilon(&all, 1e-6), pfl_rdp_epsilon(&plain, 1e-6), 1e-12);
    assert_true(pfl_rdp_epsilon(&tenth, 1e-6) < 0.5 * pfl_rdp_epsilon(&all, 1e-6));
    assert_int_equal(tenth.releases, 7);
}

static void test_rdp__nothing_released__zero(void **state)
{
    (void)state;
    struct pfl_rdp r = {0};
    assert_true(pfl_rdp_epsilon(&r, 1e-5) == 0.0);
    for (size_t i = 1; i < PFL_RDP_ORDERS; i++)
        assert_true(pfl_rdp_order(i) > pfl_rdp_order(i - 1));
    assert_true(pfl_rdp_order(PFL_RDP_ORDERS - 1) == 1024.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rdp__abadi_2016__1_26),
        cmocka_unit_test(test_rdp__gaussian__closed_form),
        cmocka_unit_test(test_rdp__laplace__pure_epsilon_is_the_bound),
        cmocka_unit_test(test_rdp__sampling__less_than_without),
        cmocka_unit_test(test_rdp__nothing_released__zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
