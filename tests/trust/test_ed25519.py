"""Ed25519: the vectors of RFC 8032, and what its rules forbid: second spellings, points of small order, keys that are none."""

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.core.errors import RejectedError
from skerry.trust import SigningKey, ed25519, read_public, verify_strict
from skerry.trust.ed25519 import ORDER, PRIME, point_fault, signature_fault
from tests.trust import curve

# RFC 8032, 7.1: secret key, public key, message, signature
VECTORS = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
]
SEED = bytes.fromhex(VECTORS[0][0])
MESSAGE = b"m"


def signed(message: bytes = MESSAGE) -> tuple[bytes, bytes]:
    key = SigningKey(Ed25519PrivateKey.from_private_bytes(SEED))
    return key.public, key.sign(message)


@pytest.mark.parametrize(("secret", "public", "message", "signature"), VECTORS)
def test_the_vectors_of_the_rfc(secret: str, public: str, message: str, signature: str) -> None:
    key = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret)))
    data, expected = bytes.fromhex(message), bytes.fromhex(signature)
    assert key.public.hex() == public
    assert key.sign(data) == expected
    assert verify_strict(key.public, data, expected)
    assert not verify_strict(key.public, data + b"\0", expected)
    assert curve.encode(curve.times(curve.secret_scalar(bytes.fromhex(secret)), curve.BASE)).hex() == public


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 511), st.binary(max_size=40))
def test_one_wrong_bit_is_seen(bit: int, message: bytes) -> None:
    public, signature = signed(message)
    wrong = bytearray(signature)
    wrong[bit // 8] ^= 1 << bit % 8
    assert verify_strict(public, message, signature)
    assert not verify_strict(public, message, bytes(wrong))
    if bit < 256:
        other = bytearray(public)
        other[bit // 8] ^= 1 << bit % 8
        assert not verify_strict(bytes(other), message, signature)


def test_a_second_s_is_refused() -> None:
    public, signature = signed()
    s = int.from_bytes(signature[32:], "little")
    for more in range(1, 16):
        again = s + more * ORDER
        if again < 1 << 256:
            forged = signature[:32] + again.to_bytes(32, "little")
            assert signature_fault(forged) == "S is not reduced"
            assert not verify_strict(public, MESSAGE, forged)
    assert not verify_strict(public, MESSAGE, signature[:32] + ORDER.to_bytes(32, "little"))
    assert curve.L == ORDER
    assert curve.P == PRIME


@pytest.mark.parametrize("size", [0, 1, 31, 32, 63, 65, 96, 128])
def test_other_lengths_are_refused(size: int) -> None:
    public, signature = signed()
    assert not verify_strict(public, MESSAGE, (signature * 2)[:size])
    if size != 32:
        assert not verify_strict((public * 4)[:size], MESSAGE, signature)
        assert "instead of 32" in point_fault((public * 4)[:size])


def test_points_of_small_order_sign_nothing() -> None:
    """With such a key R = sB − hA can be made to fit many messages: the library below takes them, we do not."""
    points = curve.small_order()
    assert len({curve.encode(point) for point in points}) == 8
    taken_by_the_library = 0
    for point in points:
        public = curve.encode(point)
        assert point_fault(public) == "a point of small order"
        with pytest.raises(RejectedError, match="small order"):
            read_public(public)
        for scalar in range(1, 9):
            r = curve.encode(curve.times(scalar, curve.BASE))
            for number in range(16):
                message = bytes([number])
                fits = curve.times(curve.challenge_scalar(r, public, message) % 8, point) == curve.IDENTITY
                forged = r + scalar.to_bytes(32, "little")
                if fits and taken_by_the_library < 16:
                    taken_by_the_library += ed25519._verify(public, message, forged)
                    assert not verify_strict(public, message, forged)
    assert taken_by_the_library, "else nothing was tried here"


def test_r_of_small_order_is_refused() -> None:
    """R = the identity, S = h·a: a signature that fits, made by who holds the key; RFC 8032 never makes it."""
    secret = curve.secret_scalar(SEED)
    public, _ = signed()
    for point in curve.small_order():
        r = curve.encode(point)
        s = curve.challenge_scalar(r, public, MESSAGE) * secret % ORDER
        forged = r + s.to_bytes(32, "little")
        assert signature_fault(forged) == "R: a point of small order"
        assert not verify_strict(public, MESSAGE, forged)
    r = curve.encode(curve.IDENTITY)
    s = curve.challenge_scalar(r, public, MESSAGE) * secret % ORDER
    assert ed25519._verify(public, MESSAGE, r + s.to_bytes(32, "little")), "the library alone takes it"


def test_encodings_that_are_not_canonical_are_refused() -> None:
    public, signature = signed()
    found = [each for point in curve.small_order() for each in curve.not_canonical(point)]
    found += [(PRIME + more).to_bytes(32, "little") for more in range(19)]
    found += [bytes.fromhex("ff" * 32), bytes.fromhex("ff" * 31 + "7f")]
    for raw in found:
        assert point_fault(raw) in {"its encoding is not canonical", "a point of small order"}
        assert not verify_strict(raw, MESSAGE, signature)
        assert not verify_strict(public, MESSAGE, raw + signature[32:])
    assert any(point_fault(raw) == "its encoding is not canonical" for raw in found)


@settings(max_examples=80, deadline=None)
@given(st.binary(min_size=32, max_size=32))
def test_a_point_is_one_of_the_curve_or_refused(raw: bytes) -> None:
    y, sign = int.from_bytes(raw, "little") & ((1 << 255) - 1), raw[31] >> 7
    good = y < PRIME and curve.root(y, sign) is not None and curve.times(8, curve.decode(raw)) != curve.IDENTITY
    assert (point_fault(raw) == "") == good
    if not good:
        with pytest.raises(RejectedError):
            read_public(raw)


def test_every_refused_form_costs_one_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    public, signature = signed()
    count = 0
    verify = ed25519._verify

    def counted(*given: bytes) -> bool:
        nonlocal count
        count += 1
        return verify(*given)

    monkeypatch.setattr(ed25519, "_verify", counted)
    cases = [
        (public, signature), (public, signature[::-1]), (public, b""), (b"", signature), (bytes(32), signature),
        (public, signature[:32] + b"\xff" * 32), (public, b"\xff" * 64), (public * 2, signature * 2),
    ]  # fmt: skip
    for number, (key, shown) in enumerate(cases, 1):
        assert verify_strict(key, MESSAGE, shown) == (number == 1)
        assert count == number


def test_a_public_key_is_read_as_pem_or_bytes() -> None:
    key = SigningKey.new()
    for form in (key.public, key.public_pem(), key.public_pem().encode(), "\n# pump\n" + key.public_pem() + "\n"):
        assert read_public(form) == key.public
    assert key.public_pem().startswith("-----BEGIN PUBLIC KEY-----\n")


def pem(key: Any) -> str:
    found: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return found.decode()


@pytest.mark.parametrize(
    ("form", "why"),
    [
        ("", "no public key in PEM"),
        ("rubbish", "no public key in PEM"),
        ("\ud800", "no public key in PEM"),
        (b"x" * 31, "no public key in PEM"),
        (b"x" * 33, "no public key in PEM"),
        (base64.b64encode(bytes(range(32))).decode(), "no public key in PEM"),
        ("x" * 32, "no public key in PEM"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no public key in PEM"),
        ("x" * 20_000, "over 16384 bytes"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "not Ed25519"),
        (pem(rsa.generate_private_key(65537, 1024)), "not Ed25519"),
        (pem(x25519.X25519PrivateKey.generate()), "not Ed25519"),
        (pem(ed448.Ed448PrivateKey.generate()), "not Ed25519"),
    ],
)  # fmt: skip
def test_what_is_no_public_key_is_refused_with_the_mend(form: bytes | str, why: str) -> None:
    with pytest.raises(RejectedError, match=why) as caught:
        read_public(form, "key.pem")
    assert caught.value.where == "key.pem"
    assert "openssl pkey -in KEY -pubout" in caught.value.mend


def test_a_private_key_is_refused_and_not_shown() -> None:
    key = SigningKey.new()
    with pytest.raises(RejectedError, match="private key, which belongs to the device alone") as caught:
        read_public(key.pem())
    secret = key.pem().splitlines()[1]
    assert secret not in str(caught.value)
    assert secret not in repr(key) + str(key)


def test_a_private_key_round_trips_as_openssl_writes_it() -> None:
    key = SigningKey.new()
    again = SigningKey.from_pem(key.pem().encode())
    assert again.public == key.public
    assert verify_strict(key.public, MESSAGE, again.sign(MESSAGE))
    assert key.pem().startswith("-----BEGIN PRIVATE KEY-----\n")


def private_pem(key: Any, encryption: Any = None) -> bytes:
    found: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())
    return found


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no private key in PEM"),
        (b"rubbish", "no private key in PEM"),
        (SigningKey.new().public_pem().encode(), "no private key in PEM"),
        (private_pem(ec.generate_private_key(ec.SECP256R1())), "not Ed25519"),
        (private_pem(Ed25519PrivateKey.generate(), BestAvailableEncryption(b"pw")), "is encrypted"),
    ],
)
def test_what_is_no_private_key_is_refused_with_the_mend(data: bytes, why: str) -> None:
    with pytest.raises(RejectedError, match=why) as caught:
        SigningKey.from_pem(data, "pump.pem")
    assert caught.value.where == "pump.pem"
    assert "openssl" in caught.value.mend
