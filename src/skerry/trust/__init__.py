"""Keys, signatures, tokens and passwords: the one room that holds cryptography. It knows nothing of devices or brokers."""

from skerry.trust.application import application_identity, application_uri
from skerry.trust.authority import Issued
from skerry.trust.certificates import CertificateFacts, certificate_facts, certificate_fingerprint, certificate_names, signed_by
from skerry.trust.ed25519 import SigningKey, read_public, verify_strict
from skerry.trust.jwt import TokenSigner, sign_token, verify_token
from skerry.trust.nkeys import KeyPair, Role, check_public, load_or_create, verify
from skerry.trust.passwords import PasswordHash, hash_password, new_password, verify_password
from skerry.trust.sealed import seal, unseal
from skerry.trust.server_tls import ServerTls, TlsFiles, check_tls_files
from skerry.trust.signing_request import issue_node, new_request
from skerry.trust.site import RENEW_DAYS, SiteAuthority

__all__ = [
    "RENEW_DAYS", "CertificateFacts", "Issued", "KeyPair", "PasswordHash", "Role", "ServerTls", "SigningKey",
    "SiteAuthority", "TlsFiles", "TokenSigner", "application_identity", "application_uri",
    "certificate_facts", "certificate_fingerprint", "certificate_names",
    "check_public", "check_tls_files", "hash_password", "issue_node", "load_or_create", "new_password", "new_request",
    "read_public", "seal", "sign_token", "signed_by", "unseal", "verify", "verify_password", "verify_strict",
    "verify_token",
]  # fmt: skip
