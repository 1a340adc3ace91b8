/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * trace: a ring of events per thread, dumped when the process is about to die.
 *
 * Only the owning thread writes its ring and only a handler on that thread
 * reads it, so a signal between two stores costs at most one garbled line.
 * The dump uses write(2) and arithmetic, nothing else.
 */
#include "util/trace.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "util/loop.h"

#define RING_EVENTS 4096

typedef struct TraceEvent {
    const char *name;
    uint64_t a, b;
    int64_t time_ns;
} TraceEvent;

typedef struct TraceRing {
    uint64_t next; /* events ever stored */
    TraceEvent events[RING_EVENTS];
} TraceRing;

static __thread TraceRing *ring;
static __thread bool ring_gone;
static int write_fd = -1; /* of selected events; set before other threads exist */
static pthread_key_t ring_key;
static pthread_once_t ring_once = PTHREAD_ONCE_INIT;

static void ring_thread_exit(void *opaque)
{
    ring = NULL;
    ring_gone = true;
    free(opaque);
}

static void ring_key_make(void)
{
    int r = pthread_key_create(&ring_key, ring_thread_exit);

    assert(r == 0);
}

/* NULL when memory is out: then this thread is not traced. */
static TraceRing *ring_make(void)
{
    if (ring_gone) {
        return NULL;
    }
    pthread_once(&ring_once, ring_key_make);

    TraceRing *r = calloc(1, sizeof(*r));

    if (r != NULL && pthread_setspecific(ring_key, r) != 0) {
        free(r);
        r = NULL;
    }
    ring = r;
    return r;
}

/* Virtual time in the simulator, so that the dump matches what the test sees. */
static int64_t trace_now_ns(void)
{
    struct timespec ts;

    if (loop_current() != NULL) {
        return loop_now_ns();
    }
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

/* --- the dump: nothing below may allocate, lock or format through stdio --- */

typedef struct Line {
    char text[160];
    size_t len;
} Line;

static void line_char(Line *l, char c)
{
    if (l->len < sizeof(l->text)) {
        l->text[l->len++] = c;
    }
}

static void line_str(Line *l, const char *s)
{
    /* Leave room for the numbers and the newline behind an overlong name. */
    for (int i = 0; s[i] != '\0' && i < 64; i++) {
        line_char(l, s[i]);
    }
}

static void line_decimal(Line *l, uint64_t n, int min_digits)
{
    char digits[20];
    int count = 0;

    do {
        digits[count++] = '0' + n % 10;
        n /= 10;
    } while (n > 0 || count < min_digits);
    while (count > 0) {
        line_char(l, digits[--count]);
    }
}

static void line_hex(Line *l, uint64_t n)
{
    int shift = n == 0 ? 0 : (63 - __builtin_clzll(n)) / 4 * 4;

    line_str(l, " 0x");
    for (; shift >= 0; shift -= 4) {
        line_char(l, "0123456789abcdef"[n >> shift & 15]);
    }
}

static void line_write(Line *l, int fd)
{
    size_t done = 0;

    line_char(l, '\n');
    while (done < l->len) {
        ssize_t n = write(fd, l->text + done, l->len - done);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return; /* nobody to tell */
        }
        done += n;
    }
}

static void dump_event(const TraceEvent *e, int fd)
{
    Line l = {.len = 0};

    line_str(&l, "trace ");
    line_decimal(&l, e->time_ns / NS_PER_S, 1);
    line_char(&l, '.');
    line_decimal(&l, e->time_ns % NS_PER_S, 9);
    line_char(&l, ' ');
    line_str(&l, e->name);
    line_hex(&l, e->a);
    line_hex(&l, e->b);
    line_write(&l, fd);
}

/* --- storing --- */

void trace(const char *event, uint64_t a, uint64_t b)
{
    TraceRing *r = likely(ring != NULL) ? ring : ring_make();
    TraceEvent e = {.name = event, .a = a, .b = b, .time_ns = trace_now_ns()};

    if (unlikely(write_fd >= 0) && trace_is_selected(event)) {
        dump_event(&e, write_fd);
    }
    if (likely(r != NULL)) {
        r->events[r->next % RING_EVENTS] = e;
        r->next++;
    }
}

void trace_write_to(int fd)
{
    if (write_fd > STDERR_FILENO) {
        close(write_fd);
    }
    write_fd = fd;
}

void trace_dump(int fd)
{
    const TraceRing *r = ring;

    if (r == NULL) {
        return;
    }

    uint64_t first = r->next > RING_EVENTS ? r->next - RING_EVENTS : 0;

    for (uint64_t i = first; i < r->next; i++) {
        dump_event(&r->events[i % RING_EVENTS], fd);
    }
}

/* --- handlers --- */

static const int fatal_signals[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
static struct sigaction old_actions[NSIG];

/*
 * Who handled the signal before us (a sanitizer, or the default action) still
 * gets it: a fault happens again when we return, anything else is sent again.
 */
static void fatal_handler(int signo, siginfo_t *info, void *context)
{
    int saved_errno = errno;

    (void)context;
    trace_dump(STDERR_FILENO);
    sigaction(signo, &old_actions[signo], NULL);
    errno = saved_errno;
    if (signo != SIGABRT && info->si_code <= 0) {
        raise(signo);
    }
}

/* A coroutine that ran off its stack has none left for the handler. */
static void alt_stack_install(void)
{
    static char stack[64 * 1024];
    stack_t now;

    if (sigaltstack(NULL, &now) == 0 && (now.ss_flags & SS_DISABLE)) {
        stack_t mine = {.ss_sp = stack, .ss_size = sizeof(stack)};

        (void)sigaltstack(&mine, NULL); /* without it we only lose that dump */
    }
}

void trace_install_handlers(void)
{
    struct sigaction action = {.sa_sigaction = fatal_handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    static bool installed;

    if (installed) {
        return;
    }
    installed = true;
    alt_stack_install();
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof(fatal_signals) / sizeof(fatal_signals[0]); i++) {
        sigaction(fatal_signals[i], &action, &old_actions[fatal_signals[i]]);
    }
}
