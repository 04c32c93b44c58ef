"""What a test tells a VNC client to do: one order a line, each answered when it is done.

    type "TEXT"      presses the keys of a JSON string, Enter for a line feed
    capture "PATH"   writes what the client shows now to a PNG file, three bytes a point

The end of the input ends the client. It refuses an order that it does not know.
"""

import json
import sys


def obey(types, captures):
    """Carries orders out until there are none."""
    print("ready", flush=True)
    for line in sys.stdin:
        order, what = line.split(" ", 1)
        {"type": types, "capture": captures}[order](json.loads(what))
        print("done", flush=True)
