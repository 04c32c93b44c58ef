"""vncdotool at HOST PORT, given orders. It asks for no password, and refuses to give one."""

import sys

from orders import obey
from vncdotool import api

# How long a display may take for one order, in seconds.
BOUND = 60


def main(host, port):
    client = api.connect(f"{host}::{port}", timeout=BOUND)
    # As on a keyboard: Shift is held for what needs it.
    client.factory.force_caps = True

    def types(text):
        for character in text:
            client.keyPress("enter" if character == "\n" else character)

    obey(types, client.captureScreen)
    client.disconnect()
    api.shutdown()


main(*sys.argv[1:])
