"""Acting on a module as soon as it is imported."""

import sys

import pytest

from verl_ext import after_import as hooks


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module that can be imported, and is not."""
    (tmp_path / "waited_for.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "waited_for"
    sys.modules.pop("waited_for", None)


def test_acts_once_after_the_module_and_before_who_asked_for_it(module):
    seen = []
    hooks.after_import(module, lambda found: seen.append(found.value))
    hooks.after_import(module, lambda found: setattr(found, "value", 2))
    assert seen == []
    imported = __import__(module)
    assert (seen, imported.value) == ([1], 2)
    hooks.after_import(module, lambda found: seen.append(found.value))  # it is there
    assert seen == [1, 2]


def test_only_a_module_that_has_loaded_ends_the_waiting(module, tmp_path):
    import importlib.util

    seen = []
    hooks.after_import(module, seen.append)
    found = importlib.util.find_spec(module)
    assert found.loader.get_source(module) == "value = 1\n"
    assert found.loader.get_code(module) is not None
    file = tmp_path / f"{module}.py"
    text = file.read_text()
    file.write_text("raise RuntimeError('not now')\n")
    with pytest.raises(RuntimeError, match="not now"):
        __import__(module)
    file.write_text(text + "# of another size, for Python's cache\n")
    importlib.invalidate_caches()
    assert seen == []
    assert __import__(module) is seen[0]
    assert len(seen) == 1


def test_a_module_that_is_not_there_is_waited_for(module, tmp_path):
    file = tmp_path / f"{module}.py"
    text = file.read_text()
    file.unlink()
    seen = []
    hooks.after_import(module, seen.append)
    with pytest.raises(ModuleNotFoundError):
        __import__(module)
    file.write_text(text)
    import importlib

    importlib.invalidate_caches()
    assert seen == []
    assert __import__(module) is seen[0]
