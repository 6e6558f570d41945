/* dmlctl: see ctl.c. */
#include <locale.h>
#include <signal.h>

#include "ctl/ctl.h"

int main(int argc, char **argv)
{
    /* A reader that went away (dmlctl report | head) is a failed write, not a death. */
    (void)signal(SIGPIPE, SIG_IGN);
    /* So is a file beyond the limit (ulimit -f). */
    (void)signal(SIGXFSZ, SIG_IGN);
    (void)setlocale(LC_CTYPE, "");
    return dml_ctl_main(argc, argv);
}
