/*
 * The first and only process of the machine that bochs.sh boots: runs what /plan says, a line at a
 * time, and switches the machine off.
 *
 * A line is [NAME=VALUE…] PROGRAM [ARGUMENT…], without quoting. "=== LINE" goes before what it
 * prints and "--- STATUS TICKS" behind it; "=== end" is the last. STATUS is as in a shell. TICKS is
 * how far the time stamp counter went: in Bochs one for each instruction, of the kernel and of the
 * loader too, and on while the machine waits, as it does for a line that is being sent.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <x86intrin.h>

/* What the kernel said last: of a signal, which instruction it was and whose. */
static void last_words(void)
{
    char text[400];
    int n = klogctl(3, text, (int)sizeof text - 1); /* SYSLOG_ACTION_READ_ALL: the newest of it */
    if (n <= 0)
        return;
    text[n] = '\0';
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        printf("# %s\n", line);
}

static void run(char *line)
{
    char *words[64], **w = words, *next = strtok(line, " \n");
    size_t n = 0;
    for (; next && n < 63; next = strtok(NULL, " \n"))
        words[n++] = next;
    words[n] = NULL;
    int status = 0;
    unsigned long long start = __rdtsc();
    pid_t pid = fork();
    if (pid == 0) {
        while (*w && strchr(*w, '='))
            putenv(*w++);
        if (*w)
            execv(*w, w);
        perror(*w ? *w : "no program");
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        perror("fork");
    unsigned long long ticks = __rdtsc() - start;
    if (WIFSIGNALED(status))
        last_words();
    printf("--- %d %llu\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
           ticks);
}

int main(void)
{
    static char line[4096];
    if (mount("dev", "/dev", "devtmpfs", 0, NULL) || mount("proc", "/proc", "proc", 0, NULL))
        return 1; /* without a console nobody hears; the kernel stops, and bochs.sh sees that */
    int fd = open("/dev/ttyS0", O_RDWR);
    dup2(fd, STDIN_FILENO);
    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    (void)klogctl(8, NULL, 1); /* SYSLOG_ACTION_CONSOLE_LEVEL: no words of the kernel in between */
    /* The same addresses every time, so that the same work takes the same instructions. */
    personality(ADDR_NO_RANDOMIZE);
    FILE *plan = chdir("/build") < 0 ? NULL : fopen("/plan", "re");
    while (plan && fgets(line, sizeof line, plan)) {
        printf("=== %s", line);
        fflush(stdout);
        run(line);
        fflush(stdout);
    }
    puts(plan ? "=== end" : "no plan");
    fflush(stdout);
    tcdrain(STDOUT_FILENO);
    reboot(RB_POWER_OFF);
    return 1;
}
