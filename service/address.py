"""The address of an upstream: one replica, or where it is known which replicas there are.

    http://10.0.0.7:8000                    one replica; https:// as well
    dns+http://engines.serving.svc:8000     every A and AAAA record of the name, at that port
    srv+http://_http._tcp.engines.serving   every SRV record's target, at the record's port
    sd+http://head:8090/pools/h100          every target on a page; sd+https:// as well

What is found is without TLS: a certificate is for a name, and what is found is addresses. Only the
page itself may have it. It is of Prometheus' format, HTTP service discovery.
A name that ends with a dot is asked for as it is; another also with each search domain of
`resolv.conf`, as any program on that machine does.

Pure, and imports nothing of the service: the settings import it.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address

_FORMS = (
    "write http://host:port for one replica, dns+http://name:port for every address of a name,"
    " srv+http://_service._proto.name for its SRV records, or sd+http://host:port/path for the"
    " targets of a page"
)
_SCHEMES = ("http", "https", "dns+http", "srv+http", "sd+http", "sd+https")
_URL = re.compile(r"([a-z+]+)://(\[[^\[\]]*\]|[^\[\]:/]*)(?::([0-9]{1,9}))?(/.*)?", re.IGNORECASE)
_PATH = re.compile(r"/([a-z0-9._~+=,:/-]|%[0-9a-f]{2})*", re.IGNORECASE)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
# Of a name without its last dot (RFC 1035 counts 255 with the lengths of the labels).
_LONGEST_NAME = 253
_DNS_PORT = 53


class Kind(StrEnum):
    """How the replicas are found."""

    STATIC = "static"
    DNS = "dns"
    SRV = "srv"
    SD = "sd"


@dataclass(frozen=True, slots=True)
class Address:
    """Where the replicas of an upstream are. `port` is None where the URL has none.

    `scheme` and `path` are those of the page, if it is one: replicas found have none but `http`.
    """

    kind: Kind
    scheme: str
    host: str
    port: int | None
    path: str = ""

    @property
    def url(self) -> str:
        """What the prefix stands before: of a page, where it is asked for."""
        return f"{self.scheme}://{_place(self.host, self.port)}{self.path}"

    def origin(self, host: str, port: int | None) -> str:
        """The URL of a replica found, such as `http://10.0.0.7:8000` or `http://[fd00::7]:8000`."""
        return f"http://{_place(host, port)}"

    def __str__(self) -> str:
        return self.url if self.kind is Kind.STATIC else f"{self.kind}+{self.url}"


def parse(url: str) -> Address:
    """Read a URL. ValueError says in one line what to write, and does not repeat the URL."""
    scheme = _plain(url).partition("://")[0].lower()
    if scheme in ("dns+https", "srv+https"):
        raise ValueError(
            f"{scheme}:// cannot be: a certificate is for a name, and what is found is addresses;"
            f" write {scheme[:-1]}://, or https://host:port once for each replica"
        )
    if scheme not in _SCHEMES:
        raise ValueError(_FORMS)
    parts = _URL.fullmatch(_ended(url, scheme))
    if parts is None:
        raise ValueError(_FORMS)
    kind, plus, scheme = scheme.rpartition("+")
    port = _port(parts[3]) if parts[3] else None
    host = parts[2].lower()
    if not plus:
        return Address(Kind.STATIC, scheme, _host(host), port)
    if kind == Kind.SD:
        return Address(Kind.SD, scheme, _host(host), port, _path(parts[4] or ""))
    return Address(Kind(kind), scheme, _name(host, Kind(kind), port), port)


def parse_nameserver(text: str) -> tuple[str, int]:
    """Read the address of a name server: `10.0.0.10`, `10.0.0.10:53` or `[fd00::10]:53`."""
    parts = _URL.fullmatch(f"dns://{text}")
    if parts is None or parts[4]:
        raise ValueError("write a name server as address:port, such as 10.0.0.10:53")
    host = _ip(parts[2].strip("[]"))
    if host is None:
        raise ValueError("a name server is an IP address: a name could not be looked up without it")
    return str(host), _port(parts[3]) if parts[3] else _DNS_PORT


def reached_at(host: str, port: int) -> str:
    """The URL at which a listener on `host` is reached from its own machine."""
    own = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # compared, not bound
    return f"http://{_place(own, port)}"


def can_be_reached(host: str) -> bool:
    """Whether `host`, an IP address or a name, can be a replica's.

    0.0.0.0 is how a filtering name server says "blocked"; to connect to it is to connect to
    ourselves.
    """
    address = _ip(host)
    return address is None or not (address.is_unspecified or address.is_multicast)


def _plain(url: str) -> str:
    # What a program that reads URLs leniently would drop, or take for something else.
    if not url.isascii():
        raise ValueError("write a name that is not ASCII in its xn-- form")
    if not url.isprintable() or " " in url:
        raise ValueError("the URL holds white space or a control character: remove it")
    if "@" in url:
        raise ValueError(
            "the URL holds a user or password: engines take gateway.engine_key alone, a page none"
        )
    return url


def _ended(url: str, scheme: str) -> str:
    """As it is, if nothing stands behind its end: a page's is its path, any other's the port."""
    rest = url[len(scheme) :].removeprefix("://")
    if scheme.startswith(f"{Kind.SD}+"):
        if re.search(r"[?#\\]", rest):
            raise ValueError("the URL of a page ends after its path: remove query and fragment")
    elif re.search(r"[/?#\\]", rest):
        raise ValueError("the URL ends after host and port: remove path, query and last slash")
    return url


def _port(text: str) -> int:
    port = int(text)
    if not 0 < port < 65536:
        raise ValueError("the port is a number from 1 to 65535")
    return port


def _host(host: str) -> str:
    """Of a single replica: an IP address or a name."""
    if host.startswith("["):
        address = _ip(host[1:-1])
        if not isinstance(address, IPv6Address):
            raise ValueError("what stands in [brackets] is no IPv6 address")
        return str(address)
    return host if _ip(host) else _checked(host)


def _path(path: str) -> str:
    """Of a page. One that readers of URLs would shorten is refused."""
    if not path:
        raise ValueError("the path of the page is missing: write sd+http://host:port/path")
    if not _PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
        raise ValueError(
            "a path is letters, digits, %xx and - . _ ~ + = , : between slashes,"
            " and no part of it is . or .."
        )
    return path


def _name(host: str, kind: Kind, port: int | None) -> str:
    """What is asked of the DNS."""
    if host.startswith("[") or _ip(host):
        raise ValueError("an IP address needs no DNS: write http://address:port")
    _checked(host)
    if kind is Kind.DNS:
        if host.startswith("_"):
            raise ValueError("a name that begins with _ has SRV records: write srv+http://")
        if port is None:
            raise ValueError("the port is missing: write dns+http://name:port")
        return host
    labels = host.rstrip(".").split(".")
    if len(labels) < 3 or any(len(label) < 2 or label[0] != "_" for label in labels[:2]):
        raise ValueError(
            "an SRV name begins with service and protocol:"
            " write srv+http://_service._proto.name, such as srv+http://_http._tcp.engines"
        )
    if port is not None:
        raise ValueError("SRV records say the port: write srv+http://_service._proto.name")
    return host


def _checked(name: str) -> str:
    bare = name.removesuffix(".")
    labels = bare.split(".")
    if "" in labels:
        raise ValueError(f"a host, or a part of it between two dots, is empty; {_FORMS}")
    if len(bare) > _LONGEST_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(
            "a host is letters, digits, - and _ between dots, up to 63 at a time and"
            f" {_LONGEST_NAME} in all"
        )
    # The DNS has no name like that, and other programs read it as an address.
    if labels[-1].isdecimal():
        raise ValueError("the host is no name and no IPv4 address: that has four parts up to 255")
    return name


def _ip(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _place(host: str, port: int | None) -> str:
    bracketed = f"[{host}]" if ":" in host else host
    return bracketed if port is None else f"{bracketed}:{port}"
