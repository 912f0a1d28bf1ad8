"""OpenVINO, which is an optional extra, imported without a word to anybody: importing it would send an event to a server, and fork for that.

Import what is needed of OpenVINO from here, nowhere else.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

SENDER = "openvino_telemetry"


def _silently(*names: str) -> list[Any]:
    """The modules of these names; while they are imported there is no sender to be found, as in an installation without it."""
    known = sys.modules.get(SENDER)
    sys.modules[SENDER] = None  # type: ignore[assignment]
    try:
        return [import_module(name) for name in names]
    finally:
        del sys.modules[SENDER]
        if known is not None:
            sys.modules[SENDER] = known


ov, _frontend, _decoder = _silently("openvino", "openvino.frontend", "openvino.frontend.pytorch.ts_decoder")
FrontEndManager, TorchScriptPythonDecoder = _frontend.FrontEndManager, _decoder.TorchScriptPythonDecoder
