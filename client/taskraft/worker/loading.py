"""Finding an app by name, and the name of an app: what a command line and a spawned process need."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskraft import App


class LoadError(Exception):
    """An app could not be found by its name; the message says why, for people."""


def load_app(spec: str) -> App:
    """The App that "module:name" names; ":name" left out stands for ":app".

    Modules are looked for in the current directory first, as `python -m` does. Raises LoadError; what the module
    itself raises when it is imported goes through.
    """
    from taskraft import App  # noqa: PLC0415  `taskraft` imports this module

    module_name, _, name = spec.partition(":")
    if not module_name:
        raise LoadError(f"{spec!r} names no module: an app is named as in module:app")
    here = str(Path.cwd())
    if not {here, ""} & set(sys.path):
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there, and something that it imports is not
        meant = module_name.removesuffix(".py").replace("/", ".").strip(".")
        hint = f"; did you mean {meant}?" if meant and meant != module_name else ""
        raise LoadError(
            f"there is no module {module_name!r} in {here} or among the installed ones{hint}"
        ) from None
    found = module
    for part in (name or "app").split("."):
        if not hasattr(found, part):
            apps = [key for key, value in vars(module).items() if isinstance(value, App)]
            hint = f"; its apps: {', '.join(f'{module_name}:{key}' for key in apps)}" if apps else ""
            raise LoadError(f"module {module_name} has no {name or 'app'!r}{hint}")
        found = getattr(found, part)
    if not isinstance(found, App):
        raise LoadError(f"{spec} is a {type(found).__name__}, not an App")
    return found


def spec_of(app: App) -> str:
    """A name by which `load_app` finds `app` in another process. LoadError if it is not at the top of a module."""
    places = [
        (module_name == "__main__", module_name, name)
        for module_name, module in list(sys.modules.items())
        for name, value in list(getattr(module, "__dict__", {}).items())
        if value is app and module_name != "__mp_main__"
    ]
    if not places:
        raise LoadError("processes can only load an app that is a variable at the top of a module")
    _, module_name, name = min(places)
    return f"{module_name}:{name}"
