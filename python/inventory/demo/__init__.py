# SPDX-License-Identifier: Apache-2.0
"""Real shop baskets against the engine, with a crash in the middle.

`inventory demo` replays the first quarter of 2017 of "The Complete Journey" (a public data set of
grocery baskets), or any other stream of purchases, over 60 % of the stock it will ask for, kills
the process that does it, recovers, finishes, and proves from an independent ledger that no
acknowledged operation was lost or done twice and no unit was oversold.
"""
