"""Opens a key in a token and signs, in a process of its own: `visitor MODULE PIN`.

It prints a line for each thing that it did; after `open` it signs once for every line it reads.
A process, for a module that speaks to a card with the interpreter's lock held would wait for the
card's double for ever.
"""

from __future__ import annotations

import sys

from tpmhsm.approval.pkcs11 import open_pkcs11
from tpmhsm.errors import TpmHsmError

MESSAGE = bytes(4) + bytes(range(64))


def main(module: str, pin: str) -> None:
    try:
        found = open_pkcs11("pkcs11:", lambda prompt: pin.encode(), module)
    except TpmHsmError as error:
        print(f"{error.code}: {error.message}")
        return
    print(f"open: {'; '.join(found.token.cautions)}", flush=True)
    for _ in sys.stdin:
        try:
            found.sign(MESSAGE)  # which verifies it
            print("signed", flush=True)
        except TpmHsmError as error:
            print(f"{error.code}: {error.message}", flush=True)
    found.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
