"""What TLS needs: who may have signed the broker's certificate, and our own where it asks for one."""

import ssl

from skerry.core.errors import ConfigError
from skerry.mqtt.config import Address, MqttConfig


class _Socket(ssl.SSLSocket):
    """Closed where its handshake fails: paho forgets it then."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def client_context(config: MqttConfig, address: Address) -> ssl.SSLContext | None:
    """The context of an encrypted connection, None for one that is not.

    Host name and chain are checked, TLS is 1.2 or later. Raises `ConfigError` for a file that cannot be read, or that is none, and
    for certificates where nothing would be encrypted.
    """
    if not address.encrypted:
        for key in ("ca", "cert", "key"):
            if getattr(config, key):
                raise ConfigError(f"{key} needs an encrypted connection", where=address.url, allowed="mqtts:// or wss://")
        return None
    try:
        context = ssl.create_default_context(cafile=config.ca or None)
    except OSError as error:
        raise _unreadable("ca", config.ca, error) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = _Socket
    if config.key and not config.cert:
        raise ConfigError("a key without its certificate", where="key", mend="name the certificate with cert")
    if config.cert:
        try:
            context.load_cert_chain(config.cert, config.key or None)
        except OSError as error:
            raise _unreadable("cert, key", f"{config.cert}, {config.key or config.cert}", error) from error
    return context


def _unreadable(where: str, files: str, error: OSError) -> ConfigError:
    # an SSLError's text is a code of the library; most of them mean that the file holds something else
    why = "no PEM certificate, or a key that does not belong to it" if isinstance(error, ssl.SSLError) else error.strerror
    return ConfigError(f"{files}: {why}", where=where, mend="name PEM files that this user may read")
