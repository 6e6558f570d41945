/* Who watches the master, and what becomes of a place whose client has gone. */
#include <errno.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/err.h"
#include "master/desk.h"
#include "master/roster.h"
#include "tests/tap.h"

enum { WATCHERS_MAX = 64 }; /* as in desk.c */

/* In place of the server's: what was done to each. */
struct dml_control_call {
    atomic_bool gone;
    atomic_uint n_replies, n_ends;
    atomic_int r; /* of the end */
};

bool dml_control_is_local(const struct dml_control_call *call)
{
    (void)call;
    return true;
}

bool dml_control_is_gone(const struct dml_control_call *call)
{
    return call->gone;
}

int dml_control_reply(struct dml_control_call *call, const char *json)
{
    (void)json;
    call->n_replies++;
    return call->gone ? -EPIPE : 0;
}

void dml_control_end(struct dml_control_call *call, int r, const struct dml_err *err)
{
    (void)err;
    call->r = r;
    call->n_ends++;
}

/* Asks to watch; returns 0 once the status was told, or how the call was ended. */
static int ask(struct dml_desk *d, struct dml_control_call *call)
{
    const struct dml_control_request request = {.command = DML_CONTROL_WATCH};
    dml_desk_request(d, call, &request);
    for (int tries = 0; tries < 60000; tries++) {
        if (call->n_ends)
            return call->r;
        if (call->n_replies)
            return 0;
        dml_clock_sleep_us(1000);
    }
    return -ETIMEDOUT;
}

int main(void)
{
    static struct dml_control_call calls[WATCHERS_MAX], more[4];
    struct dml_roster *roster = dml_roster_new(3600 * UINT64_C(1000000));
    struct dml_progress *progress = dml_progress_new();
    const struct dml_desk_options o = {.roster = roster, .progress = progress};
    struct dml_desk *d = NULL;
    tap_int(dml_desk_new(&o, &d), 0, "a desk");
    int n = 0;
    for (int i = 0; i < WATCHERS_MAX; i++)
        n += ask(d, &calls[i]) == 0;
    tap_int(n, WATCHERS_MAX, "so many may watch");
    tap_int(ask(d, &more[0]), -EAGAIN, "and no more");

    /* Nothing is told meanwhile, so nobody else has noticed. */
    calls[0].gone = calls[30].gone = calls[WATCHERS_MAX - 1].gone = true;
    for (int i = 1; i < 4; i++)
        tap_int(ask(d, &more[i]), 0, "the place of one that has gone is free");
    tap_int(calls[0].n_ends + calls[30].n_ends + calls[WATCHERS_MAX - 1].n_ends, 3,
            "whose calls were ended, once");
    dml_desk_listen(d, DML_EVENT_ROUND, "{}", NULL, NULL, NULL);
    n = 0;
    for (int i = 0; i < WATCHERS_MAX; i++)
        n += calls[i].n_replies == 2 && calls[i].n_ends == 0;
    tap_int(n, WATCHERS_MAX - 3, "the others are told what happens");
    tap_int(more[1].n_replies + more[2].n_replies + more[3].n_replies, 6, "and the new ones");
    dml_desk_close(d);
    n = 0;
    for (int i = 0; i < WATCHERS_MAX; i++)
        n += calls[i].n_ends == 1;
    for (int i = 0; i < 4; i++)
        n += more[i].n_ends == 1;
    tap_int(n, WATCHERS_MAX + 4, "in the end each was ended, once");
    dml_desk_free(d);
    dml_progress_free(progress);
    dml_roster_free(roster);
    return tap_done();
}
