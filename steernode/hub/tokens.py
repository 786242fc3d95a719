"""What a token looks like, so that a secret scanner can tell one from chance without asking a hub.

    sht_ | 43 characters of secret | 6 characters of checksum

`sht_` begins a person's token, `shn_` a serving node's, `she_` the one-time token that a node enrols with. The secret is 256 random
bits as a number in base 62 (digits, capitals, small letters, most significant first). The checksum is the CRC-32 (as in zip and PNG) of
everything before it, in base 62 too.
The checksum keeps typing errors and chance matches away; it proves nothing, because anybody can compute it.
"""

import re
import secrets
import string
import zlib

PERSON, NODE, ENROLMENT = "sht_", "shn_", "she_"
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SECRET_BITS, _SECRET_LENGTH, _CHECKSUM_LENGTH = 256, 43, 6
_TOKEN = re.compile(rf"sh[tne]_[0-9A-Za-z]{{{_SECRET_LENGTH + _CHECKSUM_LENGTH}}}", re.ASCII)


def make_token(kind: str) -> str:
    """A new token of this kind, PERSON, NODE or ENROLMENT, from the operating system's random source."""
    body = kind + in_base_62(secrets.randbits(_SECRET_BITS), _SECRET_LENGTH)
    return body + checksum(body)


def is_well_formed(token: str) -> bool:
    """Whether this has a token's shape and a right checksum. Whether a hub knows it is another question."""
    return _TOKEN.fullmatch(token) is not None and checksum(token[:-_CHECKSUM_LENGTH]) == token[-_CHECKSUM_LENGTH:]


def checksum(body: str) -> str:
    return in_base_62(zlib.crc32(body.encode("ascii")), _CHECKSUM_LENGTH)


def in_base_62(number: int, length: int) -> str:
    """The number in exactly this many base-62 digits; it must fit."""
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
