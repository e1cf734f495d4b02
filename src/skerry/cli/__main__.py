"""`python -m skerry.cli`."""

import sys

from skerry.cli.entry import main

sys.exit(main())
