"""Acts on a module as soon as it has been imported, without importing it.

verl's trainers take functions from each other's modules by name, when they are imported. Who wants to stand around such
a function must do it before that, while the plugin itself loads in processes that never import a trainer.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

Action = Callable[[ModuleType], Any]


class _Finder(importlib.abc.MetaPathFinder):
    """Finds nothing itself: lets the others find a module that is waited for, and has its actions run after it."""

    def __init__(self) -> None:
        self.waiting: dict[str, list[Action]] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self.waiting:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = find(fullname, path, target) if find and finder is not self else None
            if spec is not None:
                break
        else:
            return None  # it is not there yet
        if spec.loader is not None:
            spec.loader = _Loader(spec.loader, self.waiting)
        return spec


class _Loader(importlib.abc.Loader):
    """Loads as another does, and has the actions run; then the module is the other's alone.

    Only a load that succeeds ends the waiting: a specification may be asked for without one, and an import may fail.
    """

    def __init__(self, loader: Any, waiting: dict[str, list[Action]]):
        self.loader, self.waiting = loader, waiting

    def __getattr__(self, name: str) -> Any:  # its code, source and data, which others ask a specification for
        return getattr(self.loader, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        for action in self.waiting.pop(module.__name__, ()):
            action(module)


_finder = _Finder()


def after_import(name: str, action: Action) -> None:
    """Call `action` with the module of this name: at once where it is there, else when it has been imported.

    Args:
        action: must not raise, for the import would fail.
    """
    module = sys.modules.get(name)
    if module is not None and not getattr(module.__spec__, "_initializing", False):
        action(module)
        return
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    _finder.waiting.setdefault(name, []).append(action)
