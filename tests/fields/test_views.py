"""Views of arrays and of other fields are fields."""

from __future__ import annotations

import numpy as np
import pytest

from patchloom.errors import GeometryError
from patchloom.fields.field import ArrayField, Cropped, Field
from patchloom.fields.views import Added, Channels, Scaled
from patchloom.geometry import Box
from patchloom.testing.fields import FieldLaws

ARRAY = np.random.default_rng(0).standard_normal((3, 30, 40))
SOURCE = ArrayField(ARRAY)


class TestArray(FieldLaws):
    def field(self) -> Field:
        return SOURCE


class TestCropped(FieldLaws):
    def field(self) -> Field:
        return Cropped(SOURCE, Box(3, 4, 20, 25))


class TestChannels(FieldLaws):
    def field(self) -> Field:
        return Channels(SOURCE, 2)


class TestScaled(FieldLaws):
    def field(self) -> Field:
        return Scaled(SOURCE, 0.3)


class TestAdded(FieldLaws):
    def field(self) -> Field:
        return Added(SOURCE, Scaled(SOURCE, 0.3))


def test_a_crop_is_moved_to_the_corner() -> None:
    np.testing.assert_array_equal(Cropped(SOURCE, Box(3, 4, 20, 25)).read(Box(1, 2, 5, 6)), ARRAY[:, 4:9, 6:12])


def test_the_first_channels() -> None:
    np.testing.assert_array_equal(Channels(SOURCE, 2).read(Box(0, 0, 30, 40)), ARRAY[:2])


def test_scaling_rounds_once_to_float32() -> None:
    expected = ARRAY.astype(np.float32) * np.float32(20)
    np.testing.assert_array_equal(Scaled(SOURCE, 20).read(Box(0, 0, 30, 40)), expected)


def test_a_sum_is_of_fields_of_one_extent() -> None:
    np.testing.assert_allclose(
        Added(SOURCE, Scaled(SOURCE, 2)).read(Box(1, 2, 5, 6)), 3 * ARRAY[:, 1:6, 2:8], rtol=1e-6
    )
    with pytest.raises(GeometryError, match="only fields of one extent can be added"):
        Added(SOURCE, Channels(SOURCE, 2))


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(GeometryError, match="4 channels were asked of a field that has 3"):
        Channels(SOURCE, 4)
    with pytest.raises(GeometryError, match="does not lie inside"):
        Cropped(SOURCE, Box(0, 0, 31, 40))
