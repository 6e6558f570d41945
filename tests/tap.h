/*
 * The Test Anything Protocol, as much of it as C tests need. A failing check says what it got and
 * what it wanted and goes on; tap_done() returns the exit status.
 */
#pragma once

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static unsigned tap_n, tap_failed;

__attribute__((format(printf, 2, 3), unused)) static bool tap_ok(bool ok, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    printf("%sok %u - ", ok ? "" : "not ", ++tap_n);
    vprintf(fmt, ap);
    putchar('\n');
    va_end(ap);
    if (!ok)
        tap_failed++;
    fflush(stdout);
    return ok;
}

__attribute__((format(printf, 1, 2), unused)) static void tap_note(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    printf("# ");
    vprintf(fmt, ap);
    putchar('\n');
    va_end(ap);
}

__attribute__((unused)) static bool tap_int(long long got, long long want, const char *what)
{
    if (!tap_ok(got == want, "%s", what)) {
        tap_note("got %lld, wanted %lld", got, want);
        return false;
    }
    return true;
}

__attribute__((unused)) static bool tap_str(const char *got, const char *want, const char *what)
{
    bool same = (got && want) ? !strcmp(got, want) : got == want;
    if (!tap_ok(same, "%s", what))
        tap_note("got \"%s\", wanted \"%s\"", got ? got : "(null)", want ? want : "(null)");
    return same;
}

/* |got - want| <= tolerance; say in the test why that tolerance. */
__attribute__((unused)) static bool tap_near(double got, double want, double tolerance,
                                             const char *what)
{
    bool ok = fabs(got - want) <= tolerance;
    if (!tap_ok(ok, "%s", what))
        tap_note("got %.9g, wanted %.9g within %.3g", got, want, tolerance);
    return ok;
}

/* A sentence for people contains the words it must contain. */
__attribute__((unused)) static bool tap_has(const char *text, const char *part, const char *what)
{
    bool ok = text && strstr(text, part);
    if (!tap_ok(ok, "%s", what))
        tap_note("\"%s\" does not contain \"%s\"", text ? text : "(null)", part);
    return ok;
}

__attribute__((format(printf, 1, 2), unused)) static void tap_skip(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    printf("ok %u # SKIP ", ++tap_n);
    vprintf(fmt, ap);
    putchar('\n');
    va_end(ap);
}

__attribute__((unused)) static int tap_done(void)
{
    printf("1..%u\n", tap_n);
    return tap_failed ? 1 : 0;
}
