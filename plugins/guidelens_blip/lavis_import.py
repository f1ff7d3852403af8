"""Import LAVIS late and quietly: it takes seconds and emits deprecation warnings that help no user."""

from __future__ import annotations

import importlib
from types import ModuleType

from guidelens.quiet import quiet


def import_quietly(name: str) -> ModuleType:
    """Import module ``name`` without its warnings and without letting it change transformers' log level.

    LAVIS sets the verbosity of transformers' loggers at import. That is the application's to decide: it is
    put back.
    """
    with quiet():
        from transformers.utils import logging as transformers_logging

        verbosity = transformers_logging.get_verbosity()
        try:
            return importlib.import_module(name)
        finally:
            transformers_logging.set_verbosity(verbosity)
