/*
 * The nearest known word: distance of Damerau and Levenshtein in its restricted form (optimal
 * string alignment), where a slip is one letter too many, too few, wrong, or two exchanged.
 * Capitals do not count, and _ is as good as -.
 *
 * What is near enough grows with the word: a suggestion for "lr" that shares no letter with it
 * helps nobody.
 */
#include <ctype.h>
#include <string.h>

#include "base/opt.h"

#define WORD_MAX 48 /* the longest key has about half of it */

static int folded(char c)
{
    return c == '_' ? '-' : tolower((unsigned char)c);
}

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

static unsigned distance(const char *a, size_t na, const char *b, size_t nb)
{
    /* Rows i-2, i-1, i of the table. */
    unsigned row[3][WORD_MAX + 1];
    unsigned *before = row[0], *above = row[1], *now = row[2];
    for (size_t j = 0; j <= nb; j++)
        above[j] = (unsigned)j;
    for (size_t i = 1; i <= na; i++) {
        now[0] = (unsigned)i;
        for (size_t j = 1; j <= nb; j++) {
            int ca = folded(a[i - 1]), cb = folded(b[j - 1]);
            now[j] = least(least(above[j] + 1, now[j - 1] + 1), above[j - 1] + (ca != cb));
            if (i > 1 && j > 1 && ca == folded(b[j - 2]) && cb == folded(a[i - 2]))
                now[j] = least(now[j], before[j - 2] + 1);
        }
        unsigned *t = before;
        before = above, above = now, now = t;
    }
    return above[nb];
}

const char *dml_opt_nearest(const char *word, const char *const *words, size_t n)
{
    size_t len = strlen(word);
    if (len == 0 || len > WORD_MAX)
        return NULL;
    unsigned limit = len <= 2 ? 1 : len <= 5 ? 2 : (unsigned)len / 3 + 1;
    unsigned best = limit + 1;
    const char *found = NULL;
    for (size_t i = 0; i < n; i++) {
        size_t other = words[i] ? strlen(words[i]) : 0;
        if (other == 0 || other > WORD_MAX)
            continue;
        unsigned d = distance(word, len, words[i], other);
        if (d < best && d < other && d < len) {
            best = d;
            found = words[i];
        }
    }
    return found;
}
