"""The self-signed identity of a relay or accepter."""

import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.shell.certificates import IDENTITY_FILE, fingerprint, load_or_create


def test_made_once_and_kept(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "folder"
    certificate, key = load_or_create(directory)
    again, same_key = load_or_create(directory)
    assert certificate == again
    assert key.private_bytes_raw() == same_key.private_bytes_raw()
    certificate.verify_directly_issued_by(certificate)
    assert stat.S_IMODE((directory / IDENTITY_FILE).stat().st_mode) == 0o600
    assert [entry.name for entry in directory.iterdir()] == [IDENTITY_FILE]


def test_the_fingerprint_is_sha256_of_the_der_form(tmp_path: Path) -> None:
    certificate, _ = load_or_create(tmp_path)
    expected = hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
    assert fingerprint(certificate) == expected


def test_of_many_who_start_at_once_all_have_the_same(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from quicpipe_lab.shell.certificates import *;"
        "sys.stdin.read(); print(fingerprint(load_or_create(Path(sys.argv[1]))[0]))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(4)
    ]
    answers = {process.communicate(timeout=20)[0] for process in processes}
    assert len(answers) == 1
    assert len(answers.pop()) == 65


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    load_or_create(tmp_path)
    (tmp_path / IDENTITY_FILE).chmod(0o640)
    with pytest.raises(QuicpipeLabError, match="chmod 600"):
        load_or_create(tmp_path)


@pytest.mark.parametrize("damage", ["empty", "garbage", "no certificate", "another's"])
def test_a_damaged_file_is_refused_and_kept(tmp_path: Path, damage: str) -> None:
    load_or_create(tmp_path)
    path = tmp_path / IDENTITY_FILE
    pem = path.read_text()
    certificate_at = pem.index("-----BEGIN CERTIFICATE")
    load_or_create(tmp_path / "other")
    other = (tmp_path / "other" / IDENTITY_FILE).read_text()
    text = {
        "empty": "",
        "garbage": "x" * 500,
        "no certificate": pem[:certificate_at],
        "another's": pem[:certificate_at] + other[other.index("-----BEGIN CERTIFICATE") :],
    }[damage]
    path.write_text(text)
    with pytest.raises(QuicpipeLabError) as caught:
        load_or_create(tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_text() == text


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(QuicpipeLabError, match=r"Not a directory|File exists"):
        load_or_create(tmp_path / "file")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_without_a_home_directory_it_says_what_to_do() -> None:
    """As in a container whose user is a number: nobody says then where home is."""
    stranger = ["unshare", "--user", "--map-user=54321"]
    if subprocess.run([*stranger, "true"], capture_output=True).returncode != 0:
        pytest.skip("needs a user namespace, of root's where nobody else may have one")
    command = [sys.executable, "-m", "quicpipe_lab", "relay", "--bind", "127.0.0.1:0"]
    known = {name: one for name, one in os.environ.items() if name not in ("HOME", "XDG_DATA_HOME")}
    done = subprocess.run([*stranger, *command], env=known, capture_output=True, text=True)
    assert done.stderr == (
        "quicpipe-lab: there is no home directory to keep a certificate in;"
        " give --certificate-dir DIR, or --ephemeral\n"
    )
    assert done.returncode == 2
