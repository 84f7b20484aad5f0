"""Check the characters of AWS keys before they are used."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from lambdiff.errors import CredentialsError


class KeyNames(NamedTuple):
    """What a message calls the three parts, by their source."""

    access_key_id: str
    secret_access_key: str
    session_token: str


IN_ENVIRONMENT: Final = KeyNames("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def names_from(source: str) -> KeyNames:
    """Return the names of keys from a source.

    Example:
        >>> names_from("profile work").secret_access_key
        'The secret key of profile work'
    """
    return KeyNames(f"The key id of {source}", f"The secret key of {source}", f"The session token of {source}")


def check_keys(access_key: Any, secret_key: Any, token: Any, names: KeyNames) -> None:
    """Reject keys that AWS cannot have issued, for example one with the line break of the file that it comes from.

    Libraries further down would quote the value in their exceptions.

    Raises:
        CredentialsError: a part is not text, is empty, or contains a character that no key has.
    """
    for name, value in zip(names, (access_key, secret_key, token), strict=True):
        if name == names.session_token and not value:
            continue
        if not isinstance(value, str) or not value:
            raise CredentialsError(f"{name} is {'not text' if value else 'empty'}.", fix="Set it again.")
        if not all("!" <= character <= "~" for character in value):
            raise CredentialsError(
                f"{name} contains a space, a line break or another character that no key has.",
                fix="Set it again without stray whitespace or line breaks.",
            )
