"""``python -m guidelens``: the command line, without the working directory on the search path."""

from __future__ import annotations

import os
import sys

# python -m puts the working directory first on the search path. Remove it, so that its files are not imported.
if not getattr(sys.flags, "safe_path", False) and sys.path and sys.path[0] in ("", os.getcwd()):
    del sys.path[0]

if __name__ == "__main__":
    from guidelens.cli.main import main

    main()
