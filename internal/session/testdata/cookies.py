# Reports which tokens apps read from a cookie, by the parsers of other languages than
# JavaScript. It reads a Cookie field a line from standard input, in base64, and
# answers each with a line of JSON: the subject of what is read, by the way to read
# it. NAME is the name of the cookie, and TOKENS are the subjects by their tokens.
import base64
import json
import os
import re
import sys
from http import cookies
from urllib.parse import unquote_to_bytes


# http.cookies, as aiohttp and CherryPy use it.
def simple(text):
    jar = cookies.SimpleCookie()
    try:
        jar.load(text)
    except cookies.CookieError:
        return {}
    return {name: morsel.value for name, morsel in jar.items()}


# The parser of Django and Starlette.
def django(text):
    jar = {}
    for chunk in text.split(";"):
        name, value = chunk.split("=", 1) if "=" in chunk else ("", chunk)
        name, value = name.strip(), value.strip()
        if name or value:
            jar[name] = cookies._unquote(value)
    return jar


# The parser of Werkzeug 3 (sansio/http.py).
def werkzeug(text):
    jar = {}
    for item in text.split(";"):
        name, _, value = item.partition("=")
        name, value = name.strip(), value.strip()
        if len(value) >= 2 and value[0] == value[-1] == '"':
            value = re.sub(r"\\([0-3][0-7]{2}|.)", lambda m: chr(int(m[1], 8)) if len(m[1]) == 3 else m[1], value[1:-1])
        if name:
            jar.setdefault(name, value)
    return jar


# PHP decodes escapes wherever they are valid, and plus signs in forms.
def unescape(text, plus):
    if plus:
        text = text.replace("+", " ")
    return unquote_to_bytes(text.encode("latin-1", "replace")).decode("latin-1")


# The rules of PHP (main/php_variables.c): php_default_treat_data and
# php_register_variable_ex. Before 7.4.11 it decoded names too; before 7.1 plus signs in values.
def php(text, decodes_names, plus):
    jar = {}
    for item in re.split("[;\0]", text):
        item = item.lstrip(" \t\n\v\f\r")
        name, equals, value = item.partition("=")
        if not name:
            continue
        if decodes_names:
            name = unescape(name, True)
        name = name.split("\0")[0].lstrip(" ")
        index = name.find("[")
        if index == 0 or index > 0 and "]" in name[index:]:
            continue  # an array
        name = re.sub(r"[ .\[]", "_", name)
        if re.match("__(Host|Secure)-", name) and not item.startswith(name[:7]):
            continue
        jar.setdefault(name, unescape(value, plus) if equals else "")
    return jar


# URI.decode_www_form_component of Ruby, which raises an error on wrong escapes.
def ruby(text):
    return text if re.search("%(?![0-9a-fA-F]{2})", text) else unescape(text, True)


# Rack::Utils.parse_cookies_header: of Rack 3 and 2.2, and with names that are decoded
# of Rack 2.0 and 1, which separates by commas too.
def rack(text, separators, decodes_names):
    jar = {}
    for item in re.split(separators, text):
        if item:
            name, equals, value = item.partition("=")
            jar.setdefault(ruby(name) if decodes_names else name, ruby(value) if equals else "")
    return jar


# Only the signature of a token can have what its decoder ignores.
def key(token):
    head, dot, signature = token.rpartition(".")
    return head + dot + re.sub(r"[^\w-]", "", signature.replace("+", "-").replace("/", "_"), flags=re.ASCII)


name = os.environ["NAME"]
subjects = {key(token): subject for token, subject in json.loads(os.environ["TOKENS"]).items()}
mangled = re.sub(r"[ .\[]", "_", name)
parsers = {
    "http.cookies": (name, simple, ()),
    "Django": (name, django, ()),
    "Werkzeug": (name, werkzeug, ()),
    "PHP 8": (mangled, php, (False, False)),
    "PHP 7": (mangled, php, (True, False)),
    "PHP 5": (mangled, php, (True, True)),
    "Rack 3": (name, rack, (r";[ \t]*", False)),
    "Rack 2.0": (name, rack, (r"[;] *", True)),
    "Rack 1": (name, rack, (r"[;,] *", True)),
}
for line in sys.stdin:
    field = base64.b64decode(line)
    found = {}
    for encoding in ("latin-1", "utf-8"):
        text = field.decode(encoding, "replace")
        for how, (wanted, parse, options) in parsers.items():
            subject = subjects.get(key(parse(text, *options).get(wanted, "")))
            if subject:
                found[how + ", " + encoding] = subject
    print(json.dumps(found), flush=True)
