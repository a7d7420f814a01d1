"""Members: those of a JSON object that somebody asks for, read past all the others."""

from typing import Generic, TypeVar

import msgspec
import orjson

Asked = TypeVar("Asked", bound=msgspec.Struct)


class Members(Generic[Asked]):
    """Reads the members that a struct names, each as it was written.

    The others are not built, only looked through: most of a prompt and of an answer is of no
    interest here.
    """

    def __init__(self, asked: type[Asked]) -> None:
        self._asked = asked
        self._decode = msgspec.json.Decoder(asked).decode

    def read(self, text: bytes) -> Asked | None:
        """Return the members, or None where the text is no JSON object.

        A member that is there twice counts as the last one says.
        """
        try:
            # What is looked through is not decoded, so that only this sees what is no UTF-8.
            if not text.isascii():
                text.decode()
            return self._decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        except RecursionError:
            return self._read_deep(text)

    def _read_deep(self, text: bytes) -> Asked | None:
        # An object, for sure, and orjson needs no stack of the interpreter: it has its own limit.
        try:
            return msgspec.convert(orjson.loads(text), self._asked)
        except orjson.JSONDecodeError:
            return None
