"""A codec out of the standard library: encrypts, and refuses what it did not write in that place.

For tests only: a real one is an authenticated cipher, as in docs/operations.md.
"""

import hashlib
import hmac
import os

NONCE, TAG = 12, 16


class Sealed:
    def __init__(self, key=b"key"):
        self.key = key

    def encode(self, data, where):
        nonce = os.urandom(NONCE)
        return nonce + self._tag(nonce, data, where) + self._mask(nonce, data)

    def decode(self, data, where):
        nonce, tag = data[:NONCE], data[NONCE : NONCE + TAG]
        plain = self._mask(nonce, data[NONCE + TAG :])
        if not hmac.compare_digest(tag, self._tag(nonce, plain, where)):
            raise ValueError("wrong tag")
        return plain

    def _mask(self, nonce, data):
        stream = hashlib.shake_128(self.key + nonce).digest(len(data))
        return (int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(data), "big")

    def _tag(self, nonce, data, where):
        return hmac.digest(self.key, nonce + where.encode() + b"\0" + data, "sha256")[:TAG]
