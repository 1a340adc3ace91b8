/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Signals of a loop, through one signalfd.
 *
 * The signals are blocked in the thread of the loop; threads made later inherit
 * that. Equal signals that arrive together are one call of the handler.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "loop-internal.h"
#include "util/error.h"

typedef struct SignalHandler {
    LoopFn *fn;
    void *opaque;
} SignalHandler;

struct LoopSignals {
    LoopSource source;
    sigset_t handled;
    sigset_t blocked_by_us;
    SignalHandler handlers[NSIG];
};

static void signals_dispatch(LoopSource *src, uint32_t events)
{
    LoopSignals *s = container_of(src, LoopSignals, source);
    struct signalfd_siginfo info;

    while (read(src->fd, &info, sizeof(info)) == sizeof(info)) {
        SignalHandler *h = &s->handlers[info.ssi_signo];

        loop_defer(h->fn, h->opaque);
    }
}

static LoopSignals *signals_new(Loop *loop, GError **errp)
{
    LoopSignals *s = g_new0(LoopSignals, 1);
    int r;

    sigemptyset(&s->handled);
    sigemptyset(&s->blocked_by_us);
    s->source.dispatch = signals_dispatch;
    s->source.fd = signalfd(-1, &s->handled, SFD_CLOEXEC | SFD_NONBLOCK);
    if (s->source.fd < 0) {
        fail_errno(errp, errno, "Could not create a signal descriptor");
        g_free(s);
        return NULL;
    }
    r = loop->ops->add(loop, &s->source, EPOLLIN);
    if (r < 0) {
        fail_errno(errp, -r, "Could not watch the signal descriptor");
        close(s->source.fd);
        g_free(s);
        return NULL;
    }
    return s;
}

void loop_ignore_io_signals(void)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

bool loop_signal_add(Loop *loop, int signo, LoopFn *fn, void *opaque, GError **errp)
{
    sigset_t one, old;

    assert(loop == loop_current() && signo > 0 && signo < NSIG);
    if (loop->kind == LOOP_POLLER_VIRTUAL) {
        return fail(errp, "A virtual loop has no signals");
    }
    if (!loop->signals) {
        loop->signals = signals_new(loop, errp);
        if (!loop->signals) {
            return false;
        }
    }
    sigemptyset(&one);
    sigaddset(&one, signo);
    pthread_sigmask(SIG_BLOCK, &one, &old);
    if (!sigismember(&old, signo)) {
        sigaddset(&loop->signals->blocked_by_us, signo);
    }
    loop->signals->handlers[signo] = (SignalHandler){fn, opaque};
    sigaddset(&loop->signals->handled, signo);
    if (signalfd(loop->signals->source.fd, &loop->signals->handled, 0) < 0) {
        return fail_errno(errp, errno, "Could not watch signal %d (%s)", signo, strsignal(signo));
    }
    return true;
}

void loop_signals_free(Loop *loop, LoopSignals *s)
{
    if (!s) {
        return;
    }
    loop->ops->del(loop, &s->source);
    close(s->source.fd);
    pthread_sigmask(SIG_UNBLOCK, &s->blocked_by_us, NULL);
    g_free(s);
}
