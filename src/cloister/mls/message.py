"""MLSMessage: the envelope of everything that MLS sends (RFC 9420 section 6).

`decode_message` is the one entrance for untrusted bytes: it gives a message of a known version whose every
byte was read, or refuses (MLS-V001, MLS-V002, MLS-V003).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from cloister.codec.tls import Reader, Writer, decode
from cloister.errors import PeerError
from cloister.mls import framing
from cloister.mls.checks import refuse
from cloister.mls.ciphersuite import MLS10
from cloister.mls.group_info import GroupInfo
from cloister.mls.key_package import KeyPackage
from cloister.mls.private_message import PrivateMessage
from cloister.mls.public_message import PublicMessage
from cloister.mls.welcome import Welcome

T = TypeVar("T")

Message = PublicMessage | PrivateMessage | Welcome | GroupInfo | KeyPackage

_READERS: Final[dict[int, Callable[[Reader], Message]]] = {
    framing.PUBLIC_MESSAGE: PublicMessage.read,
    framing.PRIVATE_MESSAGE: PrivateMessage.read,
    framing.WELCOME: Welcome.read,
    framing.GROUP_INFO: GroupInfo.read,
    framing.KEY_PACKAGE: KeyPackage.read,
}
_FORMATS: Final[dict[type, int]] = {
    PublicMessage: framing.PUBLIC_MESSAGE,
    PrivateMessage: framing.PRIVATE_MESSAGE,
    Welcome: framing.WELCOME,
    GroupInfo: framing.GROUP_INFO,
    KeyPackage: framing.KEY_PACKAGE,
}


def strictly(read: Callable[[Reader], T], data: bytes) -> T:
    """Decode all of `data`; MLS-V001 for whatever is not the one encoding of a value."""
    try:
        return decode(read, data)
    except PeerError as error:
        if error.check or error.code != "bad_encoding":
            raise
        refuse("MLS-V001", error.detail, cause=error)


def _read(reader: Reader) -> Message:
    version = reader.u16()
    if version != MLS10:
        refuse("MLS-V002", f"protocol version {version}")
    read = _READERS.get(reader.u16())
    if read is None:
        refuse("MLS-V003", "an unknown wire format")
    message = read(reader)
    if isinstance(message, KeyPackage) and message.version != version:
        refuse("MLS-V002", "a key package of another version than its envelope")
    return message


def decode_message(data: bytes) -> Message:
    """The message in `data`."""
    return strictly(_read, data)


def encode_message(message: Message) -> bytes:
    """The envelope around a message."""
    writer = Writer().u16(MLS10).u16(_FORMATS[type(message)])
    message.write(writer)
    return writer.done()
