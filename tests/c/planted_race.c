/* SPDX-License-Identifier: Apache-2.0
 *
 * planted_race.c: proof that the races can fail. Each planted bug of locking runs in a process of
 * its own, since its finder may hang or an assertion may end it; it counts as caught when that
 * process reports a problem, dies by an assertion or stops making progress. Without a bug the same
 * races must pass.
 */
#include <signal.h>
#include <sys/wait.h>

#include "race_body.h"
#include "../../src/invcore/base/inv_base.h"

#define EXIT_FOUND 3
#define CHILD_SECONDS_MAX 120u

static const char *find_deadlock(void) { return race_adverse_carts(4, 40000, 2000); }

static const char *find_oversell(void) {
    const char *problem = race_one_unit(2, 20000);
    return problem != NULL ? problem : race_everything(false, 4, 200000);
}

static const char *find_torn_read(void) { return race_readers(300); }

typedef struct planted_case {
    const char *name;
    inv_plant plant;
    const char *(*find)(void);
} planted_case;

static const planted_case cases[] = {
    {"unsorted stripe locks", INV_PLANT_UNSORTED_LOCKS, find_deadlock},
    {"no stripe lock", INV_PLANT_NO_STRIPE_LOCK, find_oversell},
    {"seqlock without second check", INV_PLANT_SEQLOCK_NO_RECHECK, find_torn_read},
};

/* Runs one finder in a child; returns its wait status. */
static int run_child(const planted_case *planted, inv_plant plant) {
    fflush(NULL);
    pid_t child = fork();
    if (child < 0) abort();
    if (child == 0) {
        inv_planted_bug = (int)plant;
        alarm(CHILD_SECONDS_MAX); /* a hang the watchdog cannot see ends by signal */
        const char *problem = planted->find();
        if (problem != NULL) fprintf(stderr, "  found: %s\n", problem);
        fflush(NULL);
        _exit(problem != NULL ? EXIT_FOUND : 0);
    }
    int status = 0;
    if (waitpid(child, &status, 0) != child) abort();
    return status;
}

static void planted_run(const planted_case *planted) {
    int clean = run_child(planted, INV_PLANT_NONE);
    CHECK_EQ(clean, 0);
    int status = run_child(planted, planted->plant);
    bool caught = WIFSIGNALED(status) || (WIFEXITED(status) && WEXITSTATUS(status) != 0);
    CHECK(caught);
    printf("%s: %s\n", caught ? "caught" : "NOT CAUGHT", planted->name);
    if (WIFSIGNALED(status)) printf("  ended by signal %d\n", WTERMSIG(status));
    else if (WEXITSTATUS(status) == RACE_EXIT_STALLED) printf("  found by the watchdog\n");
}

INV_TEST(unsorted_stripe_locks) { planted_run(&cases[0]); }
INV_TEST(no_stripe_lock) { planted_run(&cases[1]); }
INV_TEST(seqlock_without_second_check) { planted_run(&cases[2]); }

INV_TEST_MAIN()
