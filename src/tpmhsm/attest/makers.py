"""The makers of TPMs by the four letters that the TCG gave them (TCG TPM Vendor ID Registry)."""

from __future__ import annotations

from tpmhsm.errors import ParseError

MAKERS = {
    "AMD": "AMD",
    "ANT": "Ant Group",
    "AMZN": "Amazon",
    "ATML": "Atmel",
    "BRCM": "Broadcom",
    "CSCO": "Cisco",
    "FLYS": "Flyslice Technologies",
    "GOOG": "Google",
    "HISI": "Huawei",
    "HPE": "HPE",
    "HPI": "HPI",
    "IBM": "IBM",
    "IFX": "Infineon",
    "INTC": "Intel",
    "LEN": "Lenovo",
    "MSFT": "Microsoft",
    "NSG": "NSING",
    "NSM": "National Semiconductor",
    "NTC": "Nuvoton",
    "NTZ": "Nationz",
    "QCOM": "Qualcomm",
    "ROCC": "Fuzhou Rockchip",
    "SEAL": "Wisekey",
    "SECE": "Wisekey",
    "SMSC": "SMSC",
    "SMSN": "Samsung",
    "SNS": "Sinosun",
    "STM": "STMicroelectronics",
    "TXN": "Texas Instruments",
    "WEC": "Winbond",
}


def maker_letters(text: str) -> str:
    """The letters in `id:494E5443`, as certificates spell a maker (EK Credential Profile 3.1.2).

    Empty when they are no letters. ParseError for what is no such text.
    """
    digits = text.removeprefix("id:")
    try:
        octets = bytes.fromhex(digits) if len(digits) == 8 and text != digits else b""
    except ValueError:
        octets = b""
    if not octets:
        raise ParseError(f"{text!r} names no maker of TPMs: id: and eight hexadecimal digits do")
    letters = octets.rstrip(b"\0 ")
    return letters.decode("ascii") if letters.isalnum() and letters.isascii() else ""


def known_letters(text: str) -> str:
    """The same, empty also for what is no such text, and for a maker that is not in `MAKERS`."""
    try:
        letters = maker_letters(text)
    except ParseError:
        return ""
    return letters if letters in MAKERS else ""
