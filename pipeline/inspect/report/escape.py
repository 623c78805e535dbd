"""Data for the page as JavaScript that no id, class name or note can break or script."""

import base64
import json
from typing import Any

import numpy as np

_CODES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}
_TYPES = {"u1": np.uint8, "u2": np.uint16, "u4": np.uint32, "i4": np.int32, "f4": np.float32}


def script_call(function: str, *values: Any) -> str:
    """`locloc.NAME(...)`: a script that hands values to the page. Pure ASCII, without `<`, `>` and `&`."""
    return f"locloc.{function}({','.join(map(script_json, values))});\n"


def script_json(value: Any) -> str:
    """JSON that is the same in a script, in HTML and in any encoding. NaN and infinity are null."""
    text = json.dumps(_finite(value), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for character, code in _CODES.items():  # only strings can hold them
        text = text.replace(character, code)
    return text


def packed(values: np.ndarray, dtype: str) -> dict[str, str]:
    """An array as base64 of its little-endian bytes, for `locloc.unpack`. dtype: a key of _TYPES."""
    data = np.ascontiguousarray(values, np.dtype(_TYPES[dtype]).newbyteorder("<"))
    return {"type": dtype, "base64": base64.b64encode(data.tobytes()).decode()}


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value
