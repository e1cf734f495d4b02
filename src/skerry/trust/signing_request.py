"""Certificates of a cluster's nodes: a node asks with a request (PKCS #10, RFC 2986) and keeps its key, the authority signs."""

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from skerry.core.errors import RejectedError
from skerry.trust.authority import SERVER_DAYS, Issued, alternative_names, sign_for

LONGEST = 16 * 1024


def new_request(name: str) -> Issued:
    """A request for a certificate of this name, in the place of the certificate, and its private key; both PEM."""
    key = generate_private_key(SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, SHA256())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Issued(request.public_bytes(Encoding.PEM), private)


def issue_node(authority: Issued, request: bytes, name: str, names: tuple[str, ...], now: int) -> bytes:
    """The certificate of a node, good as server and as client, for its name and the names and addresses where it is reached.

    Of the request only the key is taken, which has to be EC P-256 and to have signed it. Raises `RejectedError`.
    """
    public = _public(request)
    alternative = alternative_names((name, *names))
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return sign_for(authority, name, public, alternative, uses, now, SERVER_DAYS).public_bytes(Encoding.PEM)


def _public(request: bytes) -> EllipticCurvePublicKey:
    mend = "have the node make another request"
    try:
        found = x509.load_pem_x509_csr(request[:LONGEST])
        public = found.public_key()
        good = found.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise RejectedError("is no request for a certificate in PEM form", mend=mend) from error
    if not isinstance(public, EllipticCurvePublicKey) or not isinstance(public.curve, SECP256R1):
        raise RejectedError("asks for a key that is not EC P-256", mend=mend)
    if not good:
        raise RejectedError("is not signed by its own key", mend=mend)
    return public
