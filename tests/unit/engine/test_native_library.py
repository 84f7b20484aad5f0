"""Native libraries in forked processes (engine/native_library.py)."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from lambdiff.engine.native_library import NativeLibrary, any_unusable
from lambdiff.errors import ConfigurationError

pytestmark = pytest.mark.linux


def in_child(check: Callable[[], bool]) -> bool:
    """Return what `check` returns in a forked child."""
    child = os.fork()
    if not child:
        code = 2
        try:
            code = 0 if check() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_library_is_unusable_once_the_parent_has_used_it() -> None:
    """Children may use it if their parent has not; the parent may always."""
    library = NativeLibrary("Example")

    def use() -> bool:
        library.use()
        return not library.unusable

    def refused() -> bool:
        with pytest.raises(ConfigurationError, match=r"Example cannot be used .* forked") as error:
            library.use()
        return library.unusable and any_unusable() and "spawn" in error.value.fix

    assert in_child(use)
    assert in_child(lambda: use() and in_child(refused))
    assert use()
    assert in_child(lambda: refused() and in_child(refused))
    assert use()
