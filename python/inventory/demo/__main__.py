# SPDX-License-Identifier: Apache-2.0
"""`python -m inventory.demo`: the same as `inventory demo`."""

import sys

from inventory.demo.app import main

sys.exit(main(sys.argv[1:]))
