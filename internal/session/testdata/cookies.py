# Reads Cookie fields, one a line in base64, and writes what Python reads from each:
# http.cookies, as aiohttp and CherryPy use it, and the parser of Django and
# Starlette, which is theirs but for the decoding of bytes.
import base64
import json
import sys
from http import cookies


def simple(text):
    jar = cookies.SimpleCookie()
    try:
        jar.load(text)
    except cookies.CookieError:
        return {}
    return {name: morsel.value for name, morsel in jar.items()}


def django(text):
    jar = {}
    for chunk in text.split(";"):
        name, value = chunk.split("=", 1) if "=" in chunk else ("", chunk)
        name, value = name.strip(), value.strip()
        if name or value:
            jar[name] = cookies._unquote(value)
    return jar


for line in sys.stdin:
    field = base64.b64decode(line)
    latin1, utf8 = field.decode("latin-1"), field.decode("utf-8", "replace")
    print(json.dumps([simple(latin1), simple(utf8), django(latin1), django(utf8)]), flush=True)
