"""A certificate for `localhost`, which HTTPS listeners show in place of ACM's, whose keys nobody has."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LIFE = timedelta(days=825)  # the longest that browsers take


def certificate(folder: Path) -> tuple[str, str]:
    """Return the files of a certificate and its key, made where they are missing or expire within a day."""
    shown, key_file = folder / "localhost.pem", folder / "localhost.key"
    if not (shown.exists() and key_file.exists() and _is_good(shown)):
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + LIFE)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(key, hashes.SHA256())
        )
        key_file.touch(0o600)
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        shown.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return str(shown), str(key_file)


def _is_good(file: Path) -> bool:
    ends = x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc
    return ends > datetime.now(UTC) + timedelta(days=1)
