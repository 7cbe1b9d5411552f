/* SPDX-License-Identifier: Apache-2.0
 *
 * planted.h: what the programs share that plant bugs: a process of its own for each run, since a
 * bug may hang or trip an assertion of the core (both count as caught), and the line that
 * tools/campaign.py reads.
 */
#ifndef PLANTED_H
#define PLANTED_H

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../src/invcore/base/inv_base.h"
#include "inv_test.h"

#define PLANTED_EXIT_FOUND 10
#define PLANTED_TEXT_BYTES 1200u

typedef struct planted_run {
    bool found;
    double seconds;
    char how[PLANTED_TEXT_BYTES]; /* what was found, or by which signal it ended */
} planted_run;

/* Runs find(argument) with the bug planted; it writes into its text what it found, if anything. */
INV_TEST_HELPER planted_run planted_try(int bug, void (*find)(void *argument, char *out_text),
                                        void *argument, uint32_t seconds_max) {
    planted_run run;
    int ends[2];
    memset(&run, 0, sizeof run);
    if (pipe(ends) != 0) abort();
    double began = inv_test_now_seconds();
    fflush(NULL);
    pid_t child = fork();
    if (child < 0) abort();
    if (child == 0) {
        static char text[PLANTED_TEXT_BYTES];
        close(ends[0]);
        inv_planted_bug = bug;
        alarm(seconds_max); /* a hang ends by signal; 0: it may take its time */
        find(argument, text);
        fflush(NULL);
        ssize_t written = write(ends[1], text, strlen(text));
        (void)written;
        _exit(text[0] != '\0' ? PLANTED_EXIT_FOUND : 0);
    }
    close(ends[1]);
    size_t used = 0;
    for (ssize_t got = 1; got > 0; used += got > 0 ? (size_t)got : 0)
        got = read(ends[0], run.how + used, sizeof run.how - 1 - used);
    close(ends[0]);
    int status = 0;
    if (waitpid(child, &status, 0) != child) abort();
    run.seconds = inv_test_now_seconds() - began;
    run.found = !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    if (WIFSIGNALED(status))
        snprintf(run.how, sizeof run.how, "%s",
                 WTERMSIG(status) == SIGABRT   ? "an assertion of the core"
                 : WTERMSIG(status) == SIGALRM ? "it hangs"
                                               : "it crashes");
    else if (run.found && run.how[0] == '\0')
        snprintf(run.how, sizeof run.how, "exit status %d", WEXITSTATUS(status));
    return run;
}

/* Says how it went. True when it is as it must be: found, or nothing planted and nothing found. */
INV_TEST_HELPER bool planted_say(int bug, const char *name, const char *campaign,
                                 const planted_run *run) {
    bool ok = run->found == (bug != INV_PLANT_NONE);
    if (bug == INV_PLANT_NONE)
        printf("%s: nothing planted, campaign %s%s%s, %.1f s\n", ok ? "passed" : "FALSE ALARM",
               campaign, run->found ? ": " : "", run->how, run->seconds);
    else
        printf("planted: %d %s by %s in %.2f s: %s%s%s\n", bug,
               run->found ? "caught" : "NOT CAUGHT", campaign, run->seconds, name,
               run->found ? ": " : "", run->how);
    fflush(stdout);
    return ok;
}

#endif
