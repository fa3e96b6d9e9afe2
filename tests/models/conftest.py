"""Failures inside the contract and the references explain themselves like those of tests."""

import pytest

pytest.register_assert_rewrite("contracts.recommender", "models.marec_reference")
