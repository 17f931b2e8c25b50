"""`python -m` for those who have no scripts folder on their PATH."""

from __future__ import annotations

import sys

from .cli import main

sys.exit(main())
