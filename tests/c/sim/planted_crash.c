/* SPDX-License-Identifier: Apache-2.0
 *
 * planted_crash.c: the crash campaign on the build with yield points and no bug planted: cuts at
 * every storage call, at every step of an append, a group commit and a rotation, and with a second
 * appender in between. The full size of campaign 3 in CI: 100,000 distinct states.
 */
#include "campaign.h"

static const campaign_part part = {
    .name = "crash", .title = "power cuts with two appenders", .unit = "states",
    .run = campaign_crash, .units = campaign_count_states, .print = campaign_print_crash};

int main(int argc, char **argv) {
    campaign_options options = {.seed = CAMPAIGN_SEED_DEFAULT, .states = 105000};
    campaign_options_read(&options, argc, argv);
    return campaign_main(&part, 1, &options);
}
