"""Numbers as options take them."""

from __future__ import annotations

import math

import click


def not_nan(
    context: click.Context, parameter: click.Parameter, value: float | None
) -> float | None:
    """The value, as the callback of an option; a usage error for nan, which is in any range."""
    if value is not None and math.isnan(value):
        raise click.BadParameter("nan is not a number.", context, parameter)
    return value
