/* SPDX-License-Identifier: Apache-2.0 */
/* The event stream of one node. Lines are written with one write(2) each, so a reader of the file never sees half of one. A full
 * disk costs the file its lines (said once in the log), never the node. */
#include "runtime/events.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

struct pfl_events {
    int fd; /* -1: no file */
    bool write_failed;
    char *node;  /* owned */
    char **ring; /* PFL_EVENTS_RING slots, owned lines */
    size_t start, n;
    void (*on_line)(void *user, const char *line, size_t len);
    void *user;
};

enum pfl_rc pfl_events_open(const char *path, const char *node, struct pfl_events **ret, struct pfl_err *err)
{
    int fd = -1;
    if (path) {
        fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (fd < 0)
            return pfl_err_errno(err, errno, "%s: cannot open for appending", path);
    }
    struct pfl_events *ev = pfl_xcalloc(1, sizeof(*ev));
    ev->fd = fd;
    ev->node = pfl_xstrdup(node);
    ev->ring = pfl_xcalloc(PFL_EVENTS_RING, sizeof(*ev->ring));
    *ret = ev;
    return PFL_OK;
}

void pfl_events_close(struct pfl_events *ev)
{
    if (!ev)
        return;
    for (size_t i = 0; i < PFL_EVENTS_RING; i++)
        free(ev->ring[i]);
    free(ev->ring);
    free(ev->node);
    if (ev->fd >= 0)
        close(ev->fd);
    free(ev);
}

void pfl_events_set_listener(struct pfl_events *ev, void (*on_line)(void *user, const char *line, size_t len), void *user)
{
    ev->on_line = on_line;
    ev->user = user;
}

static void ring_push(struct pfl_events *ev, char *line)
{
    if (ev->n == PFL_EVENTS_RING) {
        free(ev->ring[ev->start]);
        ev->ring[ev->start] = line;
        ev->start = (ev->start + 1) % PFL_EVENTS_RING;
        return;
    }
    ev->ring[(ev->start + ev->n++) % PFL_EVENTS_RING] = line;
}

static void file_append(struct pfl_events *ev, const char *line, size_t len)
{
    if (ev->fd < 0)
        return;
    ssize_t done = write(ev->fd, line, len);
    if (done == (ssize_t)len) {
        ev->write_failed = false;
        return;
    }
    if (!ev->write_failed)
        pfl_warn("events.jsonl: a line was not written (%s); the node goes on without it",
                 done < 0 ? strerror(errno) : "the disk took only part of it");
    ev->write_failed = true;
}

void pfl_events_emit(struct pfl_events *ev, const char *event, json_t *fields)
{
    json_t *o = json_pack("{s:f, s:s, s:s}", "t", (double)pfl_clock_wall() / 1e9, "node", ev->node, "event", event);
    PFL_ASSERT(o);
    if (fields) {
        json_object_update(o, fields);
        json_decref(fields);
    }
    char *text = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    PFL_ASSERT(text);
    size_t len = strlen(text);
    char *line = pfl_xmalloc(len + 2);
    memcpy(line, text, len);
    line[len] = '\n';
    line[len + 1] = '\0';
    free(text);
    file_append(ev, line, len + 1);
    ring_push(ev, line);
    if (ev->on_line)
        ev->on_line(ev->user, line, len + 1);
}

void pfl_events_replay(const struct pfl_events *ev, void (*fn)(void *user, const char *line, size_t len), void *user)
{
    for (size_t i = 0; i < ev->n; i++) {
        const char *line = ev->ring[(ev->start + i) % PFL_EVENTS_RING];
        fn(user, line, strlen(line));
    }
}
