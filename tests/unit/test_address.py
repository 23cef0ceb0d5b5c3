"""The URL of an upstream says how its replicas are found; a wrong one is told what to write."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.address import Address, Kind, parse, parse_nameserver

LABEL = "a" * 63


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://10.0.0.7:8000", Address(Kind.STATIC, "http", "10.0.0.7", 8000)),
        ("https://engine.corp", Address(Kind.STATIC, "https", "engine.corp", None)),
        ("HTTP://Engine_1:08000", Address(Kind.STATIC, "http", "engine_1", 8000)),
        ("http://[FD00::0:7]:8000", Address(Kind.STATIC, "http", "fd00::7", 8000)),
        ("http://engine.:1", Address(Kind.STATIC, "http", "engine.", 1)),
        ("dns+http://engines:8000", Address(Kind.DNS, "http", "engines", 8000)),
        ("DNS+HTTP://a.b.svc.:65535", Address(Kind.DNS, "http", "a.b.svc.", 65535)),
        ("dns+http://xn--bcher-kva.de:1", Address(Kind.DNS, "http", "xn--bcher-kva.de", 1)),
        ("srv+http://_http._tcp.a.b", Address(Kind.SRV, "http", "_http._tcp.a.b", None)),
        (f"dns+http://{'.'.join([LABEL] * 3)}.{'a' * 61}.:8000", None),
        ("sd+http://head:8090/pools/h100", Address(Kind.SD, "http", "head", 8090, "/pools/h100")),
        ("SD+HTTPS://Head.corp/Pools/", Address(Kind.SD, "https", "head.corp", None, "/Pools/")),
        ("sd+http://[FD00::0:7]:1/", Address(Kind.SD, "http", "fd00::7", 1, "/")),
        (
            "sd+http://10.0.0.1/a:b=%2F,..c",
            Address(Kind.SD, "http", "10.0.0.1", None, "/a:b=%2F,..c"),
        ),
    ],
)
def test_a_url_is_read(url: str, address: Address | None) -> None:
    read = parse(url)
    assert address in (read, None)
    assert parse(str(read)) == read


def test_an_origin_is_a_url() -> None:
    found = parse("dns+http://engines:8000")
    assert found.origin("10.0.0.7", 8000) == "http://10.0.0.7:8000"
    assert found.origin("fd00::7", 8000) == "http://[fd00::7]:8000"
    assert parse("sd+https://head/x").origin("10.0.0.7", 8000) == "http://10.0.0.7:8000"
    assert str(parse("http://[fd00::7]:8000")) == "http://[fd00::7]:8000"
    assert str(parse("https://engine.corp")) == "https://engine.corp"


def test_a_page_is_asked_for_at_what_stands_behind_sd() -> None:
    url = "https://head.corp:8090/pools/h100"
    page = parse(f"sd+{url}")
    assert page.url == url
    assert str(page) == f"sd+{url}"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        # Not one of the forms.
        ("", "write http://host:port"),
        ("hunter2", "write http://host:port"),
        ("ftp://hunter2", "write http://host:port"),
        ("//hunter2:80", "write http://host:port"),
        ("http:hunter2", "write http://host:port"),
        ("dns://hunter2:80", "write http://host:port"),
        ("http+dns://hunter2:80", "write http://host:port"),
        ("dns+srv+http://hunter2:80", "write http://host:port"),
        ("+http://hunter2:80", "write http://host:port"),
        ("dns+https://hunter2:443", "certificate"),
        ("srv+https://_http._tcp.hunter2", "certificate"),
        # More than an origin.
        ("http://user:hunter2@host:80", "user or password"),
        ("http://hunter2@host:80", "user or password"),
        ("http://host:80/", "ends after host and port"),
        ("http://host:80/hunter2", "ends after host and port"),
        ("dns+http://host:80?hunter2", "ends after host and port"),
        ("srv+http://_http._tcp.host#hunter2", "ends after host and port"),
        ("http://host\\hunter2:80", "ends after host and port"),
        # What lenient readers drop.
        (" http://hunter2:80", "white space"),
        ("http://hunter2:80\n", "white space"),
        ("ht\ttp://hunter2:80", "white space"),
        ("http://hun\x00ter2:80", "white space"),
        ("http://hun\x7fter2:80", "white space"),
        # Ports.
        ("http://hunter2:0", "1 to 65535"),
        ("http://hunter2:65536", "1 to 65535"),
        ("http://hunter2:99999999999999", "write http://host:port"),
        ("http://hunter2:", "write http://host:port"),
        ("http://host:hunter2", "write http://host:port"),
        ("http://host:-1", "write http://host:port"),
        ("http://host:8_0", "write http://host:port"),
        ("http://host:80:90", "write http://host:port"),
        ("http://host:\uff18\uff10", "xn--"),
        ("dns+http://hunter2", "the port is missing"),
        ("srv+http://_http._tcp.hunter2:8000", "SRV records say the port"),
        # Hosts.
        ("http://:80", "is empty"),
        ("http://.:80", "is empty"),
        ("dns+http://:80", "is empty"),
        ("dns+http://a..b:80", "is empty"),
        ("dns+http://.a:80", "is empty"),
        ("dns+http://a..:80", "is empty"),
        ("dns+http://b\u00fccher:80", "xn--"),
        ("dns+http://e\u0301ngines:80", "xn--"),
        ("dns+http://-a:80", "letters, digits"),
        ("dns+http://a-.b:80", "letters, digits"),
        ("dns+http://*.a:80", "letters, digits"),
        ("dns+http://a%41:80", "letters, digits"),
        ("dns+http://a,b:80", "letters, digits"),
        ("dns+http://${HOST}:80", "letters, digits"),
        (f"dns+http://{LABEL}a:80", "letters, digits"),
        (f"dns+http://{'.'.join([LABEL] * 3)}.{'a' * 62}:80", "letters, digits"),
        # Addresses.
        ("http://10.0.0.256:80", "no IPv4 address"),
        ("http://10.0.0:80", "no IPv4 address"),
        ("http://010.0.0.1:80", "no IPv4 address"),
        ("http://2130706433:80", "no IPv4 address"),
        ("http://fd00::7:80", "write http://host:port"),
        ("http://[fd00::7:80", "write http://host:port"),
        ("http://fd00::7]:80", "write http://host:port"),
        ("http://[fd00::7]80", "write http://host:port"),
        ("http://[]:80", "no IPv6 address"),
        ("http://[hunter2]:80", "no IPv6 address"),
        ("http://[10.0.0.1]:80", "no IPv6 address"),
        ("http://[fd00::7::8]:80", "no IPv6 address"),
        ("dns+http://10.0.0.1:80", "needs no DNS"),
        ("dns+http://[fd00::7]:80", "needs no DNS"),
        ("srv+http://10.0.0.1", "needs no DNS"),
        # SRV.
        ("srv+http://hunter2", "_service._proto"),
        ("srv+http://http._tcp.hunter2", "_service._proto"),
        ("srv+http://_http.tcp.hunter2", "_service._proto"),
        ("srv+http://_http._tcp", "_service._proto"),
        ("srv+http://_http._tcp.", "_service._proto"),
        ("srv+http://_._tcp.hunter2", "_service._proto"),
        ("srv+http://_http._tcp..hunter2", "is empty"),
        ("dns+http://_http._tcp.hunter2:80", "srv+http://"),
        # Pages.
        ("sd://hunter2/x", "write http://host:port"),
        ("sd+dns+http://hunter2/x", "write http://host:port"),
        ("sd+ftp://hunter2/x", "write http://host:port"),
        ("sd+http://hunter2", "the path of the page is missing"),
        ("sd+http://hunter2:80", "the path of the page is missing"),
        ("sd+http://host/hunter2?x=y", "remove query and fragment"),
        ("sd+http://host/hunter2#x", "remove query and fragment"),
        ("sd+http://host\\hunter2", "remove query and fragment"),
        ("sd+http://host?hunter2", "remove query and fragment"),
        ("sd+http://user:hunter2@host/x", "user or password"),
        ("sd+http://host/hunter2@x", "user or password"),
        ("sd+http://host/hunter2 x", "white space"),
        ("sd+http://host/hunter2\n", "white space"),
        ("sd+http://host/hunter2/\u00fc", "xn--"),
        ("sd+http://host/hunter2/../x", "a path is letters"),
        ("sd+http://host/hunter2/.", "a path is letters"),
        ("sd+http://host/hunter2/%zz", "a path is letters"),
        ("sd+http://host/${HUNTER2}", "a path is letters"),
        ("sd+http://host:0/hunter2", "1 to 65535"),
        ("sd+http://host:/hunter2", "write http://host:port"),
        ("sd+http:///hunter2", "is empty"),
        ("sd+http://10.0.0/hunter2", "no IPv4 address"),
        ("sd+http://[::1/hunter2", "write http://host:port"),
        ("sd+http://[::1]x/hunter2", "write http://host:port"),
    ],
)
def test_a_malformed_url_is_one_line_that_says_what_to_write(url: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(url)
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


@given(
    st.text(max_size=40)
    | st.from_regex(r"(dns\+|srv\+)?https?://[\[\]._a-z0-9:-]{0,20}", fullmatch=True)
    | st.from_regex(r"sd\+https?://[a-z0-9:-]{0,9}/[.%_a-zA-Z0-9:/-]{0,20}", fullmatch=True)
)
@example("http://[::%1]:80")
@example("http://[::ffff:1.2.3.4]:80")
def test_whatever_is_read_is_written_as_it_was_meant(url: str) -> None:
    try:
        address = parse(url)
    except ValueError as error:
        assert len(str(error)) > 10  # ours, not one of a library's
        assert "\n" not in str(error)
    else:
        assert parse(str(address)) == address


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("10.0.0.10", ("10.0.0.10", 53)),
        ("10.0.0.10:5353", ("10.0.0.10", 5353)),
        ("[fd00::a]:5353", ("fd00::a", 5353)),
        ("[fd00::a]", ("fd00::a", 53)),
    ],
)
def test_a_name_server_is_read(text: str, server: tuple[str, int]) -> None:
    assert parse_nameserver(text) == server


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost:53",
        "10.0.0.10:",
        "10.0.0.10:0",
        "fd00::a",
        "dns://10.0.0.10",
        ":53",
        "10.0.0.10:53/",
    ],
)
def test_a_malformed_name_server_is_one_line(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_nameserver(text)
    assert "\n" not in str(caught.value)
