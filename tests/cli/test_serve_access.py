"""Who may reach the service, as its job decides before anything starts."""

import pytest

from coldray.cli.jobs.serve import _access_keys
from coldray.cli.options.service import KEYS_VARIABLE
from coldray.command.app import main
from coldray.core.errors import ConfigError
from coldray.serving.admission.access import KeyEntry, Keyring
from contracts.jobs import options_of

LINE = "web sha256:" + "ab" * 32


def keys(*arguments):
    return _access_keys(options_of("serve", *arguments))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1"])
def test_this_machine_alone_needs_no_key(host):
    assert keys("--host", host) == ()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "127.0.0.1.example.org", "example.org"])
def test_other_machines_need_one_unless_said_otherwise(host, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"it has no keys\. Make one with `coldray serve --new-key NAME`"):
        keys("--host", host)
    assert keys("--host", host, "--open") == ()
    (tmp_path / "keys").write_text(f"# ours\n{LINE}\n")
    assert keys("--host", host, "--keys", str(tmp_path / "keys")) == (LINE,)
    monkeypatch.setenv(KEYS_VARIABLE, LINE)
    assert keys("--host", host) == (LINE,)


def test_a_file_that_cannot_be_read_lets_nobody_in(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        keys("--keys", str(tmp_path / "none"))


def test_a_new_key_fits_its_line(capsys):
    assert main(["serve", "--new-key", "web"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert Keyring([KeyEntry.parse(lines[3])]).find(f"Bearer {lines[1]}".encode()) == 0
