"""``python -m e2mc.cli`` is ``e2mc``."""

import sys

from e2mc.cli.main import main

sys.exit(main())
