"""Jinja filters that turn answers into names and refuse the ones that cannot work.

Standard library only (Jinja is Copier's own): this file runs on the machine of everyone who copies or updates,
and Copier replays it from every released version. Each `*_error` filter returns one line that names the bad value
and the rule, or an empty string.
"""

from __future__ import annotations

import ipaddress
import json
import keyword
import re
import sys
import unicodedata
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus, urlsplit

from jinja2 import Environment, pass_context
from jinja2.ext import Extension
from jinja2.runtime import Context

# What `import NAME` or `NAME` on the command line already means in a rendered project.
DEPENDENCY_MODULES = frozenset(
    "annotated_types anyio attr attrs backports certifi cffi click copier cryptography dotenv filelock h11 "
    "hatchling httpcore httpcore2 httpx httpx2 idna importlib_metadata iniconfig jaraco jeepney jsonschema "
    "jsonschema_specifications jwt keyring lazy_importer mcp mcp_types more_itertools multipart mypy mypyc "
    "opentelemetry packaging pip pkg_resources platformdirs pluggy pycparser pydantic pydantic_core pygments pytest "
    "python_dotenv python_multipart referencing rpds ruff secretstorage setuptools sniffio src sse_starlette "
    "starlette test tests truststore typing_extensions typing_inspection uv uvicorn yaml zipp".split()
)
COMMANDS = frozenset(
    "bash cat cd copier curl docker env git keyring mcp mypy node npm npx pip pipx pytest python python3 ruff sh "
    "ssh sudo test uv uvicorn uvx".split()
)
# Distributions that are not called like their module: pip cannot install a project of the same name.
DISTRIBUTIONS = frozenset(
    "attrs backports-tarfile jaraco-classes jaraco-context jaraco-functools opentelemetry-api pyjwt python-dotenv python-multipart pyyaml rpds-py".split()
)

RESERVED_KEYS = frozenset(
    "ACCESS_TOKEN ALL_PROXY API_BASE_URL API_TIMEOUT APPDATA CREDENTIALS_DIRECTORY CURL_CA_BUNDLE DISPLAY EDITOR "
    "ENV ENV_FILE HOME HOSTNAME HTTPS_PROXY HTTP_PROXY IFS LANG LANGUAGE LOCALAPPDATA LOGNAME MAIL NO_PROXY OLDPWD "
    "PATH PATHEXT PWD REFRESH_TOKEN REQUESTS_CA_BUNDLE SHELL SHLVL SSL_CERT_DIR SSL_CERT_FILE SYSTEMROOT TEMP TERM "
    "TMP TMPDIR TOKEN_KEY TZ USER USERNAME USERPROFILE VIRTUAL_ENV".split()
)
RESERVED_PREFIXES = ("PYTHON", "MCP_", "OAUTH_", "LC_", "LD_", "DYLD_", "XDG_", "DBUS_", "UV_", "PIP_", "GIT_")

# Characters that reorder the text around them: source that reads unlike it runs.
BIDI_CONTROLS = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Answers(Extension):
    """Adds the filters below to Copier's environment."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        environment.filters.update(FILTERS)
        environment.from_string = _compiled_once(environment)  # type: ignore[assignment, method-assign]


class Constant:
    """What `from_string` gives for text in which there is nothing to render."""

    def __init__(self, text: str) -> None:
        self._text = text

    def render(self, *_: Any, **__: Any) -> str:
        return self._text


def _compiled_once(environment: Environment) -> Callable[[str], Any]:
    """Copier compiles every part of every path, and the name of the answers file as often: a fifth of a copy's time."""
    compiled = cache(environment.from_string)

    def from_string(source: str) -> Any:
        return Constant(source) if isinstance(source, str) and "{" not in source else compiled(source)

    return from_string


# ---------------------------------------------------------------- names


def name_from_folder(folder: Any) -> str:
    """`weather-api` → `Weather Api`."""
    words = re.split(r"[\s_.-]+", Path(str(folder)).resolve().name)
    name = " ".join(word[:1].upper() + word[1:] for word in words if word)
    return name if name and not server_name_error(name) else "My MCP Server"


def server_name_error(name: Any) -> str:
    return _text_error("server_name", name, limit=100)


def description_error(text: Any) -> str:
    return _text_error("description", text, limit=300)


def _text_error(question: str, text: Any, limit: int) -> str:
    text = str(text)
    if not text.strip():
        return f"{question} is empty: write at least one word."
    if text != text.strip():
        return f"{question}={text!r} begins or ends with a blank: leave it out."
    if len(text) > limit:
        return f"{question} has {len(text)} characters ({text[:20]!r}…): at most {limit}."
    for char in text:
        if unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} or char in BIDI_CONTROLS:
            return f"{question}={text!r} contains {char!r}: one line of text, without control characters."
    return ""


def package_from_name(name: Any) -> str:
    """A valid package name for any server name: `Wetter Zürich` → `wetter_zurich`, `Calendar` → `calendar_server`."""
    plain = unicodedata.normalize("NFKD", str(name)).encode("ascii", "ignore").decode()
    package = re.sub(r"[^a-z0-9]+", "_", plain.lower()).strip("_")[:50].strip("_")
    if not package:
        return "tools_server"
    if package[0].isdigit():
        package = f"server_{package}"
    if package_name_error(package) or command_name_error(package.replace("_", "-")):
        package = f"{package}_server"
    return package


def package_name_error(package: Any) -> str:
    package = str(package)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", package) or len(package) > 60:
        return (
            f"package_name={_shown(package)} is not a package name: "
            "a to z, digits and underscores, a letter first, at most 60 characters."
        )
    if keyword.iskeyword(package) or keyword.issoftkeyword(package):
        return f"package_name={package} is a Python keyword: add a word, such as {package}_server."
    if package in sys.stdlib_module_names:
        return f"package_name={package} is a module of the standard library: add a word, such as {package}_server."
    if package in DEPENDENCY_MODULES:
        return f"package_name={package} is taken in the server's own environment: add a word, such as {package}_server."
    return ""


def command_name_error(command: Any) -> str:
    command = str(command)
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", command) or len(command) > 60:
        return (
            f"command_name={_shown(command)} is not a command name: "
            "a to z, digits and single hyphens between them, a letter first, at most 60 characters."
        )
    taken = command in COMMANDS or command in DISTRIBUTIONS or command.replace("-", "_") in DEPENDENCY_MODULES
    if taken:
        return (
            f"command_name={command} is the name of another program or package: add a word, such as {command}-server."
        )
    return ""


# ----------------------------------------------------------- credentials


def key_from_package(package: Any) -> str:
    """`weather_api` → `WEATHER_API_KEY`."""
    key = f"{str(package).removesuffix('_api').removesuffix('_server').upper()}_API_KEY"
    return f"MY_{key}" if auth_keys_error(key) else key


def auth_key_list(answer: Any) -> list[str]:
    """The names in `A, B`, `A B`, `[A, B]` or a YAML list, in the order given."""
    if answer is None or str(answer).strip().lower() in {"", "none", "[]"}:
        return []
    return [name for name in re.split(r"[\s,\[\]'\"]+", str(answer)) if name and name != "-"]


def auth_keys_error(answer: Any) -> str:
    names = auth_key_list(answer)
    for name in names:
        if not re.fullmatch(r"[A-Z][A-Z0-9_]*", name) or len(name) > 100:
            return (
                f"auth_keys: {_shown(name)} is not the name of an environment variable: "
                "A to Z, digits and underscores, a letter first. Names only, never the key itself."
            )
        if name in RESERVED_KEYS or name.startswith(RESERVED_PREFIXES):
            return f"auth_keys: {name} is used by the system or by the server itself: add a word, such as MY_{name}."
        if name.endswith("_FILE"):
            return f"auth_keys: {name} ends in _FILE, which names the file that holds a credential: drop _FILE."
        if names.count(name) > 1:
            return f"auth_keys: {name} is named twice: name each once."
    return ""


# ------------------------------------------------------------------- API


def api_base_url_error(url: Any) -> str:
    url = str(url)
    bad = f"api_base_url={_shown(url)}"
    if not re.fullmatch(r"[\x21-\x7e]+", url) or set(url) & set("\"'`\\<>{}"):
        return f"{bad} is not an address: write it in plain ASCII, without blanks and quotes."
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError as error:
        return f"{bad} is not an address ({error}): write one like https://api.example.com/v1."
    if parts.scheme not in {"https", "http"} or not host:
        return f"{bad} is not an address: write one like https://api.example.com/v1."
    if parts.username is not None or parts.password is not None:
        return (
            f"api_base_url has a user or password before {host}: leave it out, credentials are looked up at run time."
        )
    if parts.query or parts.fragment or url.endswith(("?", "#")):
        return f"{bad} ends in a query or fragment: leave it out, tools add their own parameters."
    if parts.scheme == "http" and not _is_loopback(host):
        return f"{bad} would send credentials unencrypted: use https (http is for this machine only)."
    return ""


def api_auth_error(scheme: Any, auth_keys: Any, provider: Any = "none") -> str:
    if scheme == "oauth" and provider == "none":
        return "api_auth=oauth needs an oauth_provider to sign in to, which is none: choose one, or another way here."
    count = len(auth_key_list(auth_keys))
    needed = {"header": 1, "bearer": 1, "query": 1, "basic": 2}.get(str(scheme), 0)
    if count >= needed:
        return ""
    names = "two names (user, then password)" if needed == 2 else "a name"
    return f"api_auth={scheme} needs {names} in auth_keys, which has {count}: add to auth_keys, or answer none here."


def header_name_error(name: Any) -> str:
    name = str(name)
    if not re.fullmatch(r"[A-Za-z0-9!#$%&*+.^_|~-]{1,60}", name):
        return f"api_key_header={_shown(name)} is not a header name: letters, digits and hyphens, such as X-API-Key."
    if name.lower() in {"host", "content-length", "content-type", "transfer-encoding", "connection", "user-agent"}:
        return f"api_key_header={name} is a header that the HTTP client sets itself: take the one the API documents."
    return ""


def parameter_name_error(name: Any) -> str:
    name = str(name)
    if not re.fullmatch(r"[A-Za-z0-9._~\[\]-]{1,60}", name):
        return f"api_key_parameter={_shown(name)} is not a parameter name: letters, digits, underscores and hyphens."
    return ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# ----------------------------------------------------------------- OAuth

DEFAULT_SCOPES = {"github": "read:user", "google": "openid email profile", "azure": "User.Read"}


def default_scopes(provider: Any) -> str:
    """The least that tells who signed in."""
    return DEFAULT_SCOPES.get(str(provider), "")


def scope_list(scopes: Any) -> list[str]:
    return str(scopes or "").split()


def oauth_scopes_error(scopes: Any, provider: Any) -> str:
    given = set(scope_list(scopes))
    if not given and provider in {"google", "azure"}:
        return f"oauth_scopes is empty, and {provider} refuses that: pass oauth_scopes={_quoted_default(provider)}."
    for other, default in DEFAULT_SCOPES.items():
        # OpenID Connect's own scopes are right at many a custom provider.
        common = (other, provider) == ("google", "custom")
        if other != provider and given == set(default.split()) and not common:
            what = "the scopes that it documents" if provider == "custom" else _quoted_default(provider)
            return f"oauth_scopes={_shown(str(scopes))} is for {other}, not for {provider}: pass oauth_scopes={what}."
    for scope in scope_list(scopes):
        if not re.fullmatch(r"[\x21\x23-\x5b\x5d-\x7e]+", scope) or scope.endswith(","):  # RFC 6749, section 3.3
            return (
                f"oauth_scopes: {_shown(scope)} is not a scope: separate scopes by blanks, without commas and quotes."
            )
    return ""


def _quoted_default(provider: Any) -> str:
    return f"'{default_scopes(provider)}'"


def azure_tenant_id_error(tenant: Any) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}", str(tenant)):
        return ""
    return (
        f"azure_tenant_id={_shown(str(tenant))} is not a tenant: a GUID, a domain, common, organizations or consumers."
    )


def url_host(url: Any) -> str:
    return urlsplit(str(url)).hostname or "the provider"


def oauth_url_error(url: Any, question: str, empty: bool = False, query: bool = False) -> str:
    if not str(url) and empty:
        return ""
    base, mark, more = str(url).partition("?")
    error = api_base_url_error(base if query and more else url)
    if error:
        return error.replace("api_base_url", question).replace("api.example.com/v1", "auth.example.com")
    if query and mark:
        return _parameters_error(question, more.split("&"))
    return ""


# What the server sends itself, what would replace it or send the answer elsewhere, and secrets.
_OURS = frozenset(
    "client_id client_secret code_challenge code_challenge_method code_verifier redirect_uri request request_uri "
    "response_mode response_type scope state".split()
)


def parameters(text: Any) -> dict[str, str]:
    """`audience=a prompt=login%20consent` → the parameters by name, as they are before they are put into a URL."""
    pairs = (pair.partition("=") for pair in str(text or "").split())
    return {name: unquote_plus(value) for name, _, value in pairs}


def oauth_authorize_params_error(text: Any) -> str:
    text = str(text or "")
    if len(text) > 1000:
        return f"oauth_authorize_params has {len(text)} characters: at most 1000."
    return _parameters_error("oauth_authorize_params", re.split(r" +", text.strip(" ")) if text.strip(" ") else [])


def _parameters_error(question: str, pairs: list[str]) -> str:
    names: set[str] = set()
    for pair in pairs:
        name, _, value = pair.partition("=")
        shown = f"{question}: {_shown(name)}"
        if not re.fullmatch(r"[A-Za-z0-9._~-]{1,60}", name) or not value:
            return f"{shown} is not a parameter with a value: write name=value, such as audience=api.example.com."
        if not re.fullmatch(r"(?:%[0-9A-Fa-f]{2}|[!$()*+,\-./0-9:;=?@A-Z_a-z~\[\]])+", value):
            return f"{shown} has a value that cannot be in a URL: no quotes; %20 for a blank, %26 for &, %25 for %."
        if not _is_plain(unquote_plus(value)):
            return f"{shown} has a value with control characters or quotes: leave them out."
        if name.lower() in _OURS:
            return f"{shown} is set by the server itself, or would keep the sign-in from working: leave it out."
        if name.lower() in names:
            return f"{shown} is named twice: name each once."
        names.add(name.lower())
    return ""


def _is_plain(text: str) -> bool:
    return all(char.isprintable() and char not in "\"'`\\<>\ufffd" for char in text)


# -------------------------------------------- answers that go together


@pass_context
def recorded_answers(context: Context, external: Any) -> Any:
    """What the answers file says, where there is one: only then are answers known before any was given.

    Copier also renders what is recorded into empty folders, for comparison; it passes all of it then.
    """
    conf = context["_copier_conf"]
    passed = {*conf["data"], *conf["user_defaults"]}
    asked_always = ("server_name", "package_name", "oauth_provider", "api_auth")
    known = [name for name in asked_always if name in context and name not in passed]
    return external["recorded"] if known else {}


@pass_context
def outlived(context: Context, answer: Any, question: str) -> str:
    """Why a recorded answer ends with this update, or an empty string.

    What was right for another provider, key or name is not right any more when that changes. Copier drops a recorded
    answer that its validator refuses, and takes the default. An answer that was passed for this update stays.
    """
    was = context["recorded"]
    if question in context["_copier_conf"]["data"] or was.get(question) != answer:
        return ""
    if not OUTLIVED[question](was, context):
        return ""
    return f"{question}={_shown(str(answer))} belonged to an answer that has changed: give another."


def _scopes_outlived(was: dict[str, Any], now: Context) -> bool:
    return bool(was.get("oauth_provider") != now["oauth_provider"])


def _keys_outlived(was: dict[str, Any], now: Context) -> bool:
    """No keys was the default because of the provider, which is gone."""
    gone = _had_provider(was) and now["oauth_provider"] == "none"
    return gone and not auth_key_list(was["auth_keys"]) and _unattended(now)


def _api_auth_outlived(was: dict[str, Any], now: Context) -> bool:
    """There is a provider now, or a first key, that the recorded way does not send."""
    if now["oauth_provider"] != "none":
        return not _had_provider(was)
    first_key = auth_key_list(now["auth_keys"]) and not auth_key_list(was.get("auth_keys"))
    return bool(first_key and was["api_auth"] == "none")


def _description_outlived(was: dict[str, Any], now: Context) -> bool:
    """It was made from the server's name, which is another now."""
    name = was.get("server_name")
    made = was["description"] == f"Tools of {name} for MCP clients"
    return made and name != now["server_name"] and _unattended(now)


def _had_provider(was: dict[str, Any]) -> bool:
    return bool(was.get("oauth_provider", "none") != "none")


OUTLIVED: dict[str, Callable[[dict[str, Any], Context], bool]] = {
    "oauth_scopes": _scopes_outlived,
    "auth_keys": _keys_outlived,
    "api_auth": _api_auth_outlived,
    "description": _description_outlived,
}


def _unattended(context: Context) -> bool:
    """Whether the questions are answered without a prompt, in which a person would see what is kept."""
    conf = context["_copier_conf"]
    return bool(conf["defaults"] or conf["skip_answered"])


@pass_context
def oauth_provider_error(context: Context, provider: Any) -> str:
    """A made-up issuer is fine to look at in a first copy, not in a server that people sign in to already."""
    was = context["recorded"]
    data = context["_copier_conf"]["data"]
    new = bool(was) and provider == "custom" and was.get("oauth_provider") != "custom"
    if new and "oauth_issuer" not in data and _unattended(context):
        return "oauth_provider=custom needs an issuer: pass oauth_issuer=https://… too, or oauth_issuer= and its URLs."
    return ""


@pass_context
def oauth_issuer_error(context: Context, issuer: Any) -> str:
    """The same for the URLs: Copier would take made-up ones."""
    urls = ("oauth_authorization_url", "oauth_token_url")
    if issuer and any(url in context["_copier_conf"]["data"] for url in urls):
        return "oauth_issuer is given, so the provider's URLs would count for nothing: leave them out, or pass oauth_issuer= too."
    missing = [url for url in urls if url not in context]
    if context["recorded"] and not issuer and missing and _unattended(context):
        return f"oauth_issuer is empty, so the provider's URLs are needed: pass {' and '.join(missing)} too."
    return oauth_url_error(issuer, "oauth_issuer", empty=True)


@pass_context
def too_few_for_basic(context: Context, answer: Any) -> str:
    """Copier would take the default, a header, instead of the recorded way."""
    was = context["recorded"]
    data = context["_copier_conf"]["data"]
    kept = was.get("api_auth") == "basic" and "api_auth" not in data and _unattended(context)
    if kept and len(auth_key_list(answer)) == 1:
        return "auth_keys has one name, and api_auth=basic needs two: pass api_auth too, or two names."
    return ""


# -------------------------------------------------------------- literals


def literal(text: Any) -> str:
    """`text` as a string literal that reads the same in Python, TOML and JSON."""
    return json.dumps(str(text), ensure_ascii=False)


def markdown(text: Any) -> str:
    """`text` so that Markdown shows it as typed."""
    return re.sub(r"([\\`*_{}\[\]<>#|~!&$])", r"\\\1", str(text))


def _shown(value: str) -> str:
    """A value for a message: as typed, cut where it is long."""
    return repr(value if len(value) <= 60 else value[:60] + "…")


FILTERS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        name_from_folder,
        server_name_error,
        description_error,
        package_from_name,
        package_name_error,
        command_name_error,
        key_from_package,
        auth_key_list,
        auth_keys_error,
        api_base_url_error,
        api_auth_error,
        too_few_for_basic,
        recorded_answers,
        outlived,
        header_name_error,
        parameter_name_error,
        default_scopes,
        scope_list,
        oauth_provider_error,
        oauth_scopes_error,
        oauth_authorize_params_error,
        parameters,
        oauth_issuer_error,
        azure_tenant_id_error,
        oauth_url_error,
        url_host,
        literal,
        markdown,
    )
}
