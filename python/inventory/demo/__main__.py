# SPDX-License-Identifier: Apache-2.0
"""`python -m inventory.demo`: the same as `inventory demo`."""

import sys

from inventory.cli import main

main(["demo", *sys.argv[1:]], prog_name="inventory")
