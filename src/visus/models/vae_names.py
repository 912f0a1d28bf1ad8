"""What an encoder calls its outputs: names of a dict or dataclass, or of the variables that its source returns."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from typing import Any


def role(name: str) -> str:
    """What an output's name says that it is: 'mu', 'logvar', 'logsigma', 'sigma', 'var', 'softplus', 'z', or ''."""
    text = re.sub(r"[^a-z0-9]", "", name.lower())
    if re.search(r"^rho|rho$|softplus", text):
        return "softplus"
    if re.search(r"log|ln|^lv$", text):
        if re.search(r"var|cov|^lv$|(sigma|sig|std|s)(2|sq|pow)", text):
            return "logvar"
        return "logsigma" if re.search(r"sig|std|scale|sd", text) else ""
    if re.search(r"(sigma|sig|std)(2|sq)|var", text) and "variational" not in text:
        return "var"
    if re.search(r"sigma|std|stdv|stddev|scale|^sig$|^sd$", text):
        return "sigma"
    if re.search(r"mu$|^mu|mean|loc$|^embedding$|^mus?\d*$", text):
        return "mu"
    return "z" if re.fullmatch(r"zs?|z?samples?|latents?|codes?", text) else ""


def returned_names(function: Any) -> list[str]:
    """Names of the variables (or of the layers called) in a function's last return of several; [] where the source is not to be had."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return []
    returns = [n.value for n in ast.walk(tree) if isinstance(n, ast.Return) and isinstance(n.value, ast.Tuple)]
    return [_named_by(e) for e in returns[-1].elts] if returns else []


def _named_by(node: ast.expr) -> str:
    while isinstance(node, ast.Call):
        node = node.func
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
