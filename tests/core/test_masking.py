"""Passwords, keys and tokens are read nowhere; everything else of a text stays."""

import json
import string
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldray.core.errors import ColdrayError, TrackingError
from coldray.core.masking import masked, masked_values

SECRET = st.text(string.ascii_letters + string.digits + "@:!$*().,;~+=&%é", min_size=8, max_size=30).map(
    lambda text: f"Q{text}Q"
)
PLACE = st.sampled_from(["host", "db.example.org:5432", "127.0.0.1:5000/mlflow", "[::1]:5000", "bucket/key?region=eu"])
AROUND = st.sampled_from(
    [("", ""), ("sent to ", ". The study goes on"), ("'", "'"), ("(", "), 3 times"), ('{"a": "', '"}')]
)


@given(st.sampled_from(["http", "https", "postgresql+psycopg", "s3", "redis"]), SECRET, PLACE, AROUND, st.booleans())
def test_a_password_is_masked_wherever_it_stands_in_a_text(scheme, secret, place, around, quoted):
    given_secret = quote(secret, safe="") if quoted else secret
    text = around[0] + f"{scheme}://user:{given_secret}@{place}" + around[1]
    assert masked(text) == around[0] + f"{scheme}://user:***@{place}" + around[1]
    assert masked(masked(text)) == masked(text)


@given(st.text(string.ascii_letters + string.digits + "%.-_~", min_size=8).map(lambda text: f"Q{text}Q"))
def test_tokens_and_keys_are_masked(secret):
    for text in (
        f"https://{secret}@host/x",
        f"http://host/?x=1&access_token={secret}&y=2",
        f"http://host/?X-Amz-Signature={secret}",
        f"host=db password={secret} dbname=x",
        f"aws_secret_access_key = {secret}",
        json.dumps({"password": secret}),
        f"{ {'api_key': secret} }",
        f"Authorization: Bearer {secret * 2}",
    ):
        assert secret not in masked(text)
        assert masked(masked(text)) == masked(text)


@pytest.mark.parametrize(
    "text",
    [
        "http://host:5000/models@champion",
        "sqlite:////home/me@work/mlflow.db",
        "models:/coldray-marec@champion",
        "write to me@example.org, or use a Bearer token",
        "--set features.max_tokens=128",
        "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        "Column 'secret' is missing: there are 'token' and 'key'",
        "http://user:***@host",
    ],
)
def test_what_is_no_secret_stays(text):
    assert masked(text) == text


def test_errors_and_plain_values_are_masked():
    error = TrackingError("http://user:hunter22@host is away")
    assert str(error) == "http://user:***@host is away"
    assert "hunter22" not in repr(error)
    assert ColdrayError(3).args == (3,)
    values = {"a": ["http://u:hunter22@h", 3, None], "b": {"c": ("x",)}}
    assert masked_values(values) == {"a": ["http://u:***@h", 3, None], "b": {"c": ["x"]}}
