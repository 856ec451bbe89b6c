"""Whatever a command may raise, as an error of the product.

Source: docs/spec/errors.md. Invariants: errors of the product come out as they are, also from a group of tasks;
everything else gets a code, and its cause is kept for -v.
"""

from __future__ import annotations

import click

from cloister.errors import CloisterError, InternalError, UnavailableError, UsageError


def as_cloister_error(raised: BaseException) -> CloisterError:
    """The product's error for anything that a command may raise."""
    if isinstance(raised, BaseExceptionGroup):
        return as_cloister_error(_first_cause(raised))
    if isinstance(raised, CloisterError):
        return raised
    error: CloisterError
    if isinstance(raised, click.UsageError):
        error = UsageError("usage", _usage_detail(raised))
    elif isinstance(raised, click.ClickException):
        error = UsageError("usage", raised.format_message())
    elif isinstance(raised, OSError):
        error = UnavailableError("disk", ": ".join(filter(None, (str(raised.filename or ""), raised.strerror))))
    else:
        error = InternalError("internal", type(raised).__name__)
    error.__cause__ = raised
    return error


def _first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group of tasks that is ours, else the first one."""
    ours = group.subgroup(CloisterError) or group
    first = ours.exceptions[0]
    return _first_cause(first) if isinstance(first, BaseExceptionGroup) else first


def _usage_detail(error: click.UsageError) -> str:
    detail = error.format_message().rstrip(".")
    return f"{detail} ({error.ctx.command_path} --help)" if error.ctx else detail
