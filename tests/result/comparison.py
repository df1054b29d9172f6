"""Results compared field by field, arrays, tables and nested records included."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from homodyne.result import FitResult


def assert_same_result(a: FitResult, b: FitResult) -> None:
    """Every field the same to the last bit, NaN equal to NaN; not the link to the data, nor where a search would begin."""
    for field in dataclasses.fields(FitResult):
        if field.compare and field.name != "parameters":
            assert_same(getattr(a, field.name), getattr(b, field.name), field.name)
    assert [_facts(p) for p in a.parameters] == [_facts(p) for p in b.parameters]


def _facts(parameter: Any) -> tuple:
    return tuple(getattr(parameter, n) for n in ("name", "unit", "lower", "upper", "scale", "description"))


def assert_same(a: Any, b: Any, where: str) -> None:
    """Values of records: numbers, texts, arrays, tables, and tuples, mappings and dataclasses of them."""
    if isinstance(a, xr.Dataset):
        assert set(a.variables) == set(b.variables), where
        assert dict(a.sizes) == dict(b.sizes), where
        for name in a.variables:
            assert a[name].dims == b[name].dims, f"{where}.{name}"
            assert_same(a[name].values, b[name].values, f"{where}.{name}")
            assert dict(a[name].attrs) == dict(b[name].attrs), f"{where}.{name}"
    elif dataclasses.is_dataclass(a):
        for field in dataclasses.fields(a):
            assert_same(getattr(a, field.name), getattr(b, field.name), f"{where}.{field.name}")
    elif isinstance(a, Mapping):
        assert set(a) == set(b), where
        for key in a:
            assert_same(a[key], b[key], f"{where}[{key!r}]")
    elif isinstance(a, tuple):
        assert len(a) == len(b), where
        for x, y in zip(a, b, strict=True):
            assert_same(x, y, where)
    else:
        np.testing.assert_array_equal(a, b, err_msg=where, strict=isinstance(a, np.ndarray) and a.dtype.kind == "f")


def curve_table(relative: float, n_t: int = 30) -> xr.Dataset:
    """J and gamma_dot, and their errors as a part of them, over 0.1 s steps."""
    t = 0.1 * np.arange(n_t)
    columns = {}
    for name, value in (("J", 8e3), ("gamma_dot", 2e-3)):
        columns[name] = ("t", np.full(n_t, value))
        columns[f"{name}_stderr"] = ("t", np.full(n_t, relative * value))
    return xr.Dataset(columns, coords={"t": t})
