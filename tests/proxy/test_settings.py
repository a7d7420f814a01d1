"""A setting that cannot be used stops the process with one sentence that names it."""

import pytest

from gateway.errors import ConfigError
from gateway.settings import read_settings

NONE = {"GATEWAY_AUTH": "none"}


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({**NONE}, "GATEWAY_ORG is needed"),
        ({**NONE, "GATEWAY_ORG": "a b"}, "GATEWAY_ORG is 'a b'; expected"),
        ({"GATEWAY_ORG": "ä"}, "GATEWAY_ORG is 'ä'; expected"),
        ({**NONE, "GATEWAY_ORG": "acme", "GATEWAY_HOST": "0.0.0.0"}, "must be loopback"),
        ({"GATEWAY_PORT": "70000"}, "GATEWAY_PORT is not usable"),
        ({"GATEWAY_HOLD_TTL_MS": "0"}, "GATEWAY_HOLD_TTL_MS is not usable"),
        ({"GATEWAY_DATABASE_URL_FILE": "/nowhere/at/all"}, "GATEWAY_DATABASE_URL_FILE names"),
    ],
)
def test_setting_that_cannot_be_used_is_named(environ: dict[str, str], said: str) -> None:
    """Whoever set it must find it in the sentence."""
    with pytest.raises(ConfigError, match=said):
        read_settings(environ)
