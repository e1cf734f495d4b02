"""Keys, signatures, tokens and passwords: the one room that holds cryptography. It knows nothing of devices or brokers."""

from skerry.trust.jwt import TokenSigner, sign_token, verify_token
from skerry.trust.nkeys import KeyPair, Role, check_public, load_or_create, verify
from skerry.trust.passwords import PasswordHash, hash_password, new_password, verify_password

__all__ = [
    "KeyPair", "PasswordHash", "Role", "TokenSigner", "check_public", "hash_password", "load_or_create", "new_password",
    "sign_token", "verify", "verify_password", "verify_token",
]  # fmt: skip
