/* SPDX-License-Identifier: Apache-2.0
 *
 * planted_crash.c: the crash campaign on the build with yield points and no bug planted: cuts at
 * every storage call, at every step of an append, a group commit and a rotation, and with a second
 * appender in between. The full size of campaign 3 in CI: 100,000 distinct states.
 */
#include <inttypes.h>
#include <stdio.h>

#include "campaign.h"

int main(int argc, char **argv) {
    campaign_options options = {.seed = CAMPAIGN_SEED_DEFAULT, .states = 105000};
    campaign_report report;
    campaign_options_read(&options, argc, argv);
    campaign_crash(&options, &report);
    campaign_print_crash(&report);
    bool ok = campaign_verdict("power cuts with two appenders", &report);
    return campaign_finish(ok, !ok);
}
