"""Who logs in over TLS: a word stands for a client once, and for nobody else."""

from skerry.broker import Callers, ConnectRequest
from skerry.broker.callers import Caller

PUMP = Caller("10.0.0.7", "pump-1", "secret", ("PEM",))


def asked(word: str) -> ConnectRequest:
    return ConnectRequest("S", "U", transport="mqtt", client_id="c", username="$tls", password=word, connection=7)


def test_a_word_is_good_once() -> None:
    callers = Callers()
    request = asked(callers.announce(PUMP))
    found = callers.resolve(request)
    assert found is not None
    assert (found.username, found.password, found.address) == ("pump-1", "secret", "10.0.0.7")
    assert (found.certificates, found.verified) == (("PEM",), True)
    assert (found.server, found.user_key, found.transport, found.client_id, found.connection) == ("S", "U", "mqtt", "c", 7)
    assert callers.resolve(request) is None, "it is no password that somebody said"
    assert len(callers) == 0


def test_without_a_certificate_nothing_is_verified() -> None:
    callers = Callers()
    found = callers.resolve(asked(callers.announce(Caller("10.0.0.7", "", "", ()))))
    assert found is not None
    assert (found.username, found.certificates, found.verified) == ("", (), False)


def test_what_came_another_way_is_left_as_it_is() -> None:
    callers = Callers()
    word = callers.announce(PUMP)
    for password in ("", "secret", "$tls", "tls:" + word, word.upper()):
        request = asked(password)
        assert callers.resolve(request) is request
    for guess in (word[:-1], word + "0", "$tls:"):
        assert callers.resolve(asked(guess)) is None
    assert len(callers) == 1


def test_a_client_that_is_gone_is_forgotten() -> None:
    callers = Callers()
    word = callers.announce(PUMP)
    callers.forget(word)
    callers.forget(word)
    assert len(callers) == 0
    assert callers.resolve(asked(word)) is None


def test_words_are_many_and_cannot_be_guessed() -> None:
    callers = Callers()
    words = {callers.announce(PUMP) for _ in range(1000)}
    assert len(words) == 1000
    assert {len(word) for word in words} == {53}


def test_a_password_is_never_shown() -> None:
    assert "secret" not in repr(PUMP)
    assert "pump-1" in repr(PUMP)
