/* SPDX-License-Identifier: Apache-2.0 */
/* The impostor: a node like any other, with certificates of another CA, that asks for a link while the others learn. The run shows
 * that it is refused, by whom and why; a run in which it gets in has failed. It is started before learning begins, so that its
 * attack falls into a round and not behind the last one. */
#include <stdlib.h>
#include <string.h>

#include "runtime/run_impl.h"

#define ATTACK_LIMIT (20 * PFL_SEC)

static const char *text_of(const json_t *e, const char *key)
{
    const char *s = json_string_value(json_object_get(e, key));
    return s ? s : "";
}

static void on_event(void *user, struct pfl_child *c, const json_t *event)
{
    struct pfl_run *run = user;
    (void)c;
    if (strcmp(text_of(event, "event"), "started") == 0)
        run->impostor.started = true;
    else if (strcmp(text_of(event, "event"), "neighbour") == 0)
        run->impostor.admitted = true;
}

static void on_exit_(void *user, struct pfl_child *c)
{
    struct pfl_run *run = user;
    if (run->shutting_down || run->impostor.answered)
        return;
    PFL_AUTO(pfl_freep) char *how = pfl_child_ending(c);
    pfl_run_fail(run, "the impostor's process ended before it had tried: %s", how);
}

bool pfl_impostor_start(struct pfl_run *run, struct pfl_err *err)
{
    return pfl_child_start(&(struct pfl_child_opts){.loop = &run->loop,
                                                    .name = run->plan.impostor.name,
                                                    .dir = run->plan.impostor.dir,
                                                    .on_event = on_event,
                                                    .on_exit = on_exit_,
                                                    .user = run},
                           &run->impostor.child, err) == PFL_OK;
}

bool pfl_impostor_ready(const struct pfl_run *run)
{
    return !run->impostor.child || run->impostor.started || !pfl_child_running(run->impostor.child);
}

static void on_answer(void *user, json_t *answer, const char *error)
{
    struct pfl_run *run = user;
    run->impostor.answered = true;
    if (answer)
        run->impostor.admitted = true;
    else
        run->impostor.error = pfl_xstrdup(error);
}

static void attack(struct pfl_run *run)
{
    run->impostor.asked = true;
    pfl_progress_say(run->progress, "an impostor with a certificate of another authority asks node-1 for a link");
    pfl_child_ask(run->impostor.child, json_pack("{s:s, s:s}", "cmd", "connect", "address", run->record->nodes[0].address),
                  ATTACK_LIMIT, on_answer, run);
}

void pfl_impostor_watch(struct pfl_run *run, const json_t *event)
{
    const char *kind = text_of(event, "event"), *address = text_of(event, "address");
    int32_t moment = run->plan.cfg.rounds > 1 ? 1 : 0;
    if (!run->impostor.child)
        return;
    if ((strcmp(kind, "neighbour") == 0 || strcmp(kind, "known") == 0) && strcmp(address, run->plan.impostor.address) == 0)
        run->impostor.admitted = true;
    if (strcmp(kind, "refused") == 0 && strcasestr(text_of(event, "peer"), run->plan.impostor.name))
        run->impostor.refused = true;
    if (strcmp(kind, "round_started") == 0 && !run->impostor.asked && run->impostor.started &&
        json_integer_value(json_object_get(event, "round")) >= moment)
        attack(run);
}

static bool outcome(struct pfl_run *run)
{
    bool running = pfl_child_running(run->impostor.child);
    return run->impostor.admitted || (run->impostor.answered && run->impostor.refused) || !running;
}

void pfl_impostor_verdict(struct pfl_run *run)
{
    if (!run->impostor.child || run->interrupts)
        return;
    if (!run->impostor.asked && run->impostor.started)
        attack(run);
    (void)pfl_run_wait(run, outcome, ATTACK_LIMIT);
    if (run->interrupts)
        return;
    if (run->impostor.admitted)
        pfl_run_fail(run, "the impostor got in: a node accepted a link with %s", run->plan.impostor.address);
    else if (!run->impostor.answered)
        pfl_run_fail(run, "the impostor's attempt had no outcome");
    else if (!run->impostor.refused)
        pfl_run_fail(run, "the impostor did not get in, but nobody said that it was refused; it heard: %s",
                     pfl_q(run->impostor.error));
    else
        pfl_progress_say(run->progress, "the impostor heard: %s", pfl_q(run->impostor.error));
}
