"""Find plugins: entry points of installed distributions, modules by name, ``.py`` files by path.

A plugin is imported only by :meth:`Source.load`, and ``sys.path`` never changes.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from guidelens.errors import UsageError

from .requirements import normalized
from .spelling import suggestion

ENTRY_POINT_GROUP = "guidelens"

_FILE_PREFIX = "_guidelens_file_"

Via = Literal["entry point", "module", "file", "object"]


@dataclass(frozen=True, eq=False)
class Source:
    """A plugin that can be loaded.

    :param name: its name for users: that of the entry point or module, or the file's stem.
    :param origin: the place of its code, for users.
    :param module: its module; empty for a file or an object.
    :param load: imports it and returns the module or object.
    :param dist: the distribution that registers it; empty if none does.
    :param version: of the distribution.
    :param via: how it was found.
    """

    name: str
    origin: str
    module: str
    load: Callable[[], Any]
    dist: str = ""
    version: str = ""
    via: Via = "entry point"

    def answers_to(self, text: str) -> bool:
        """Return whether ``text`` means this plugin, by name, ``distribution/name``, module or file."""
        if text in (self.name, self.origin) or (self.module and text == self.module):
            return True
        owner, slash, name = text.rpartition("/")
        return bool(slash and self.dist) and name == self.name and normalized(owner) == normalized(self.dist)

    @cached_property
    def code_hash(self) -> str:
        """``sha256`` and 12 hex digits of the plugin's Python files; ``object`` where it has none."""
        return _hash_of([Path(self.origin)]) if self.via == "file" else code_hash(self.module)


def code_hash(module: str) -> str:
    """Return ``sha256`` and 12 hex digits of the Python files of a module's top-level package.

    ``object`` for a module without a file, such as a notebook.
    """
    top = module.partition(".")[0]
    main = getattr(sys.modules.get(top), "__file__", None) or getattr(
        sys.modules.get(module), "__file__", None
    )
    if not main or not Path(main).is_file():
        return "object"
    package = Path(main).name == "__init__.py"
    return _hash_of(sorted(Path(main).parent.rglob("*.py")) if package else [Path(main)])


def _hash_of(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(files[0].parent).as_posix().encode() if len(files) > 1 else b"")
        digest.update(file.read_bytes())
    return f"sha256 {digest.hexdigest()[:12]}"


def entry_point_sources() -> list[Source]:
    """Return the plugins of installed distributions, sorted by name. None is imported."""
    sources = []
    for point in metadata.entry_points(group=ENTRY_POINT_GROUP):
        dist = point.dist
        sources.append(
            Source(
                name=point.name,
                origin=point.value,
                module=point.value.partition(":")[0].strip(),
                load=point.load,
                dist=dist.name if dist is not None else "",
                version=dist.version if dist is not None else "",
            )
        )
    return sorted(sources, key=lambda source: (source.name, source.dist))


def find_source(text: str, known: Sequence[Source]) -> Source:
    """Return the source that ``text`` means: one of ``known``, a ``.py`` file, or a module.

    :raises UsageError: it means nothing, or several plugins.
    """
    if looks_like_file(text) and not any(source.answers_to(text) for source in known):
        return file_source(text, known)
    matches = [source for source in known if source.answers_to(text)]
    if len(matches) > 1:
        owners = " or ".join(f"{source.dist}/{source.name}" for source in matches)
        raise UsageError(f"several distributions register a plugin {text!r}; say {owners}")
    if matches:
        return matches[0]
    if not all(part.isidentifier() for part in text.split(".")) or not _module_exists(text):
        raise UsageError(f"no plugin {text!r}{_hint(text, known)}")
    return Source(text, text, text, lambda: importlib.import_module(text), via="module")


def looks_like_file(text: str) -> bool:
    """Return whether ``text`` can only be a path."""
    return text.endswith(".py") or text.startswith((".", "~")) or os.path.isabs(text)


def _module_exists(name: str) -> bool:
    """Return whether ``name`` can be found. This imports its parent packages. Errors in them are reported later."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as error:
        return not _is_prefix(error.name, name)
    except ValueError:  # a module without a spec, such as __main__
        return name in sys.modules
    except KeyboardInterrupt:
        raise
    except BaseException:
        return True  # it exists but is broken; loading it reports the error


def _is_prefix(missing: str | None, name: str) -> bool:
    return missing is not None and (name == missing or name.startswith(f"{missing}."))


def _hint(text: str, known: Sequence[Source]) -> str:
    if Path(f"{text}.py").is_file():
        return f"; for the file write -p {text}.py (the working directory is not searched for modules)"
    names = [source.name for source in known]
    near = suggestion(text, names)
    return (
        near
        or f"; installed: {', '.join(names) or 'none'}; or give an importable module, or a path to a .py file"
    )


def file_source(text: str, known: Sequence[Source] = ()) -> Source:
    """Return the plugin in a ``.py`` file.

    :raises UsageError: if there is no such file.
    """
    path = Path(text).expanduser()
    if not path.is_file():
        raise UsageError(
            f"no plugin file {text!r}" + ("" if path.suffix == ".py" else "; it should end in .py")
        )
    if path.suffix != ".py":
        raise UsageError(f"plugin file {text!r} does not end in .py")
    path = path.resolve()
    name = path.stem
    if any(source.name == name for source in known):
        name = f"{name}-{_digest(path)}"  # two files, or a file and an installed plugin, with the same name
    return Source(name, str(path), "", lambda: _load_file(path), via="file")


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:8]


def _load_file(path: Path) -> ModuleType:
    """Execute a file as a module with a unique name. ``sys.path`` does not change."""
    for other, module in list(sys.modules.items()):
        if not other.startswith(_FILE_PREFIX) and getattr(module, "__dict__", {}).get("__file__") == str(
            path
        ):
            return module  # already imported under its real name; a second copy would register its components again
    name = f"{_FILE_PREFIX}{re.sub(r'[^0-9A-Za-z_]', '_', path.stem)}_{_digest(path)}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {path}")
    module = importlib.util.module_from_spec(spec)
    previous = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses and pickle look modules up by name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if previous is None:
            del sys.modules[name]
        else:
            sys.modules[name] = previous
        raise
    return module


def object_source(plugin: object) -> Source:
    """Return the source of a plugin object: a module, an instance, or a class without arguments."""
    name = getattr(plugin, "__name__", None) or type(plugin).__name__
    return Source(str(name), f"object {name}", "", lambda: plugin, via="object")
