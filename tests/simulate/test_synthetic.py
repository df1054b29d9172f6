"""Datasets from a few numbers: every model that the schema offers has a sample of its own."""

import typing

import numpy as np
import pytest

from homodyne.config.schema import SyntheticDatasetConf
from homodyne.models import get_model
from homodyne.simulate.synthetic import OTHERS, THETA, synthetic_dataset

CHOICES = typing.cast(tuple[str, ...], SyntheticDatasetConf.__dataclass_fields__["model"].metadata["choices"])


@pytest.mark.parametrize("name", CHOICES)
def test_the_data_are_those_of_the_model(name):
    data, model = synthetic_dataset(name, n_phi=3, n_t=40, noise=1e-6), get_model(name)
    values = {**THETA, **OTHERS.get(name, {})}
    theta = {p.name: values[p.name] for p in model.parameters}
    c2 = data.read_block(1, slice(0, 40), slice(0, 40))
    i, j = np.triu_indices(40, 1)
    s = model.g1_squared(theta, np.asarray(data.t), float(data.phi[1]), float(np.ravel(data.q)[0]), data.gap)[i, j]
    slope, offset = np.polyfit(s, c2[i, j], 1)
    np.testing.assert_allclose(c2[i, j], offset + slope * s, atol=1e-5)
    assert offset == pytest.approx(1.0, abs=1e-4)
    assert s.min() < 0.5
