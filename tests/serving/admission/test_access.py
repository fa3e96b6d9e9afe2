"""Keys: what is kept of them, who gets in with one, and how often."""

import pytest

from coldray.core.errors import ConfigError
from coldray.serving.admission.access import KeyEntry, Keyring, _TokenBucket, key_lines, new_key

LINE = "web sha256:" + "ab" * 32


def test_a_key_opens_and_its_line_alone_is_kept():
    key, entry = new_key("web", 5)
    other, second = new_key("other")
    assert key not in entry.line
    ring = Keyring(map(KeyEntry.parse, key_lines(f"# mine\n{entry.line}\n\n{second.line}")))
    assert ring.find(f"Bearer {key}".encode()) == 0
    assert ring.find(f"bearer {other}".encode()) == 1
    for wrong in (b"", key.encode(), b"Bearer ", b"Bearer " + entry.digest.hex().encode(), f"Basic {key}".encode()):
        assert ring.find(wrong) is None


def test_lines_of_a_variable_are_parted_by_semicolons():
    assert key_lines(f"{LINE}; {LINE.replace('web', 'app')} 2.5;") == (LINE, LINE.replace("web", "app") + " 2.5")


@pytest.mark.parametrize(
    "line",
    ["web", "web sha256:abcd", "web " + "ab" * 32, LINE + " often", LINE + " 0", LINE + " nan", LINE + " 1 2",
     "web sha256:" + "xy" * 32],
)  # fmt: skip
def test_a_line_that_is_none_is_named_without_its_hash(line):
    with pytest.raises(ConfigError, match="The key 'web' is not written as NAME sha256:HASH") as caught:
        key_lines(line)
    assert "ab" * 32 not in str(caught.value)


def test_two_keys_of_one_name_and_no_key_are_errors():
    with pytest.raises(ConfigError, match="two keys of the name 'web'"):
        key_lines(f"{LINE}\n{LINE}")
    with pytest.raises(ConfigError, match="no key among the keys"):
        key_lines("# none yet\n")


@pytest.mark.parametrize("name", ["", "two words", "#web", "a;b"])
def test_a_key_has_a_name_of_one_word(name):
    with pytest.raises(ConfigError):
        new_key(name)


def test_a_bucket_lets_through_its_rate_and_says_how_long_to_wait():
    now = 0.0
    bucket = _TokenBucket(2, clock=lambda: now)
    assert [bucket.wait() for _ in range(3)] == [0, 0, 0.5]
    now = 0.5
    assert bucket.wait() == 0
    assert bucket.wait() == 0.5
    now = 100.0
    assert [bucket.wait() > 0 for _ in range(3)] == [False, False, True]


def test_rates_are_of_each_key():
    entries = [KeyEntry("slow", b"s" * 32, 0.1), KeyEntry("free", b"f" * 32)]
    ring = Keyring(entries, clock=lambda: 0.0)
    assert ring.wait(0) == 0
    assert ring.wait(0) == pytest.approx(10)
    assert [ring.wait(1) for _ in range(100)] == [0] * 100
