/*
 * What a peer calls itself ends in terminals, logs and JSON: escape sequences, line breaks and
 * bytes that are not UTF-8 have no business there.
 */
#include "rpc/clean.h"

#include <string.h>

/* Length of the UTF-8 sequence at s, 0 when it is not well-formed (Unicode, table 3-7). */
static size_t utf8_len(const unsigned char *s)
{
    if (s[0] < 0x80)
        return 1;
    size_t n = s[0] >= 0xc2 && s[0] <= 0xdf ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 : 4;
    if (s[0] < 0xc2 || s[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

void dml_clean_copy(char *dst, size_t dst_len, const char *src)
{
    const unsigned char *s = (const unsigned char *)src;
    size_t used = 0;
    while (*s) {
        size_t n = utf8_len(s);
        bool bad = n == 0 || *s < 0x20 || *s == 0x7f || (s[0] == 0xc2 && s[1] < 0xa0);
        size_t room = bad ? 1 : n;
        if (used + room >= dst_len)
            break;
        if (bad)
            dst[used] = '?';
        else
            memcpy(dst + used, s, n);
        used += room;
        s += n ? n : 1;
    }
    dst[used] = '\0';
}

bool dml_clean_is_id(const char *s)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t len = strlen(s);
    return len > 0 && strspn(s, allowed) == len;
}
