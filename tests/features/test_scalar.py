import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import DataFormatError, NotFittedError
from coldray.data.dataset import NumberAttribute
from coldray.data.tables.numbers import LARGEST
from coldray.features.scalar import ScalarEncoder, read_numbers

VALUES = st.lists(st.floats(allow_infinity=False), max_size=20).map(lambda values: np.array(values, np.float64))


@settings(deadline=None)
@given(VALUES, VALUES)
def test_values_and_unknowns_pass_through_and_the_span_is_that_of_the_fit(fitted, new):
    encoder = ScalarEncoder().fit(NumberAttribute(fitted))
    known = [value for value in fitted.tolist() if abs(value) <= LARGEST]
    span = max(known) - min(known) if known else 0.0
    assert encoder.span == (span if span > 0 else 1.0)
    feature = encoder.transform(NumberAttribute(new))
    assert feature.span == encoder.span
    assert feature.values.dtype == np.float64
    np.testing.assert_array_equal(feature.values, np.where(np.abs(new) <= LARGEST, new, np.nan))


@settings(deadline=None)
@given(VALUES)
def test_the_order_of_the_items_does_not_matter(values):
    assert ScalarEncoder().fit(NumberAttribute(values[::-1])).span == ScalarEncoder().fit(NumberAttribute(values)).span


@settings(deadline=None)
@given(VALUES)
def test_a_restored_encoder_has_the_same_span_to_the_last_bit(values):
    encoder = ScalarEncoder().fit(NumberAttribute(values))
    assert ScalarEncoder.from_state(json.loads(json.dumps(encoder.state()))).span == encoder.span


@pytest.mark.parametrize(
    ("values", "span"),
    [
        ([1990, 2001, math.nan, 1995], 11.0),
        ([5, 5], 1.0),
        ([math.nan], 1.0),
        ([], 1.0),
        ([1.0, math.inf, 4.0], 3.0),
        ([1.0, 1e300, 4.0], 3.0),
    ],
)
def test_the_span(values, span):
    assert ScalarEncoder().fit(NumberAttribute(np.array(values, np.float64))).span == span


def test_an_infinite_value_is_unknown():
    encoder = ScalarEncoder().fit(NumberAttribute(np.array([1.0, 2.0])))
    values = encoder.transform(NumberAttribute(np.array([-math.inf, 7.0]))).values
    np.testing.assert_array_equal(values, [math.nan, 7.0])


def test_a_transform_leaves_the_attribute_alone():
    attribute = NumberAttribute(np.array([1.0, math.inf]))
    ScalarEncoder().fit(attribute).transform(attribute).values[0] = 9.0
    np.testing.assert_array_equal(attribute.values, [1.0, math.inf])


def test_nothing_can_be_encoded_before_the_fit():
    with pytest.raises(NotFittedError, match="fit"):
        ScalarEncoder().transform(NumberAttribute(np.zeros(1)))


@pytest.mark.parametrize("span", [0.0, -1.0, math.nan, math.inf])
def test_a_span_that_cannot_divide_is_refused(span):
    with pytest.raises(DataFormatError, match="positive"):
        ScalarEncoder.from_state({"span": span})


def test_plain_values_become_numbers():
    values = read_numbers([1999, 2.5, None, math.nan, np.float32(4), np.int8(-128)], "year").values
    assert values.dtype == np.float64
    np.testing.assert_array_equal(values, [1999, 2.5, math.nan, math.nan, 4, -128])


@pytest.mark.parametrize("value", ["1999", True, [1999], math.inf, 1e31, -1e300, 10**400])
def test_a_value_that_is_no_number_is_named(value):
    with pytest.raises(DataFormatError, match=r"item 2 .*'year' must be an int or float of at most 1e.30"):
        read_numbers([1, None, value], "year")
