"""``python -m vlmchat``, and what the console script calls."""

from __future__ import annotations

import sys

from vlmchat.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
