"""Asks the DNS where the replicas of one address are, once each time it is called.

Nothing is cached: what is asked every few seconds is never older than its TTL by more than that.
SRV priorities and weights are not looked at: the gateway balances by the load it sees.

Three outcomes are told apart. Addresses; *none*, which a server has said (NXDOMAIN, or no record
of that kind: so cluster DNS speaks of a headless Service without a ready pod); and a failure, with
which nothing is known (SERVFAIL, REFUSED, no or a malformed answer).

A relative name is tried with the search domains in their order until it exists. Once it has had
replicas under one of them, those after it are not asked again: an empty Service would otherwise
hand the prompts to whoever has a wildcard record in a later domain. From the first question on only
a name that ends with a dot is safe from that.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.rdata
import dns.rdtypes.IN.SRV
import dns.resolver
from dns.rdatatype import AAAA, SRV, A, RdataType

from service.address import Address, Kind, can_be_reached, parse_nameserver

RESOLV_CONF = "/etc/resolv.conf"
QUESTION_SECONDS = 2.0
# SRV targets that came without their addresses are looked up: so many at a time, so long in all.
_AT_ONCE = 32
_ROUND_SECONDS = 30.0
# As many as the C library asks.
_NAMESERVERS = 3
_VERSIONS = {4: A, 6: AAAA}


@dataclass(frozen=True, slots=True)
class Resolution:
    """What was found. Without an `error` it is everything, even if it is nothing.

    `unsure` are the IP versions of which a question failed: of those there may be more.
    """

    origins: frozenset[str] = frozenset()
    unsure: frozenset[int] = frozenset()
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Reply:
    """To one question. `exists`: whether there is such a name, with whatever records."""

    exists: bool = True
    records: tuple[dns.rdata.Rdata, ...] = ()
    additional: Mapping[dns.name.Name, tuple[str, ...]] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Found:
    """Under one name."""

    exists: bool
    resolution: Resolution


class Resolver:
    """Finds the replicas of an address that is not static.

    `nameserver` (`address:port`) is asked instead of those in `resolv_conf`, whose search domains
    count all the same. `timeout` is for one server to answer one question, in seconds.
    """

    check = "See that the name server answers, and that its port can be reached by UDP and TCP"
    none = "the DNS has no address"

    def __init__(
        self,
        address: Address,
        nameserver: str = "",
        *,
        timeout: float = QUESTION_SECONDS,
        resolv_conf: str = RESOLV_CONF,
    ) -> None:
        self._address = address
        self._nameserver = parse_nameserver(nameserver) if nameserver else None
        self._timeout = timeout
        self._resolv_conf = resolv_conf
        # Under which of the names to try there were replicas.
        self._answered: dns.name.Name | None = None

    async def resolve(self) -> Resolution:
        """Ask. Raises nothing: a failure is a `Resolution` as well."""
        try:
            # Read anew: it changes while a program runs.
            configuration = self._configuration()
            names = self._names(configuration)
            look = _Questions(self._address, configuration)
            async with asyncio.timeout(_ROUND_SECONDS):
                return await self._first(names, look)
        except TimeoutError:
            return failure(f"not all questions were answered within {_ROUND_SECONDS:.0f} s")
        except (dns.exception.DNSException, OSError, ValueError) as error:
            return failure(one_line(error))

    async def _first(self, names: Iterable[dns.name.Name], look: "_Questions") -> Resolution:
        """What is found under the first name that exists, or of which that cannot be known."""
        for name in names:
            found = await look.up(name)
            if found.resolution.origins:
                self._answered = name
            if found.exists or found.resolution.error:
                return found.resolution
        return Resolution()

    def _configuration(self) -> dns.asyncresolver.Resolver:
        resolver = dns.asyncresolver.Resolver(configure=False)
        try:
            resolver.read_resolv_conf(self._resolv_conf)
        except dns.resolver.NoResolverConfiguration:  # it names no server, or is not there
            if self._nameserver is None:
                raise
        if self._nameserver is not None:
            host, resolver.port = self._nameserver
            resolver.nameservers = [host]
        resolver.nameservers = resolver.nameservers[:_NAMESERVERS]
        resolver.timeout = self._timeout
        resolver.lifetime = self._timeout * len(resolver.nameservers)
        return resolver

    def _names(self, configuration: dns.asyncresolver.Resolver) -> list[dns.name.Name]:
        name = dns.name.from_text(self._address.host, None)
        if name.is_absolute():
            return [name]
        suffixes = configuration.search or [configuration.domain]
        names = [full for suffix in suffixes if (full := _joined(name, suffix)) is not None]
        ndots = 1 if configuration.ndots is None else configuration.ndots
        as_it_is = name.concatenate(dns.name.root)
        names.insert(0 if len(name) > ndots else len(names), as_it_is)
        names = list(dict.fromkeys(names))
        return names[: names.index(self._answered) + 1] if self._answered in names else names


class _Questions:
    """The questions of one round."""

    def __init__(self, address: Address, configuration: dns.asyncresolver.Resolver) -> None:
        self._address = address
        self._resolver = configuration
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self.up: Callable[[dns.name.Name], Awaitable[_Found]] = (
            self._services if address.kind is Kind.SRV else self._hosts
        )

    async def _hosts(self, name: dns.name.Name) -> _Found:
        assert self._address.port is not None, "the address was parsed"
        return await self._host(name, {self._address.port})

    async def _host(self, name: dns.name.Name, ports: Iterable[int]) -> _Found:
        """The addresses of a name, at each of the ports."""
        replies = await asyncio.gather(*(self._ask(name, kind) for kind in _VERSIONS.values()))
        texts = [record.to_text() for reply in replies for record in reply.records]
        unsure = [version for version, reply in zip(_VERSIONS, replies, strict=True) if reply.error]
        error = next((reply.error for reply in replies if reply.error), "")
        exists = any(reply.exists for reply in replies)
        return _Found(exists, Resolution(self._origins(texts, ports), frozenset(unsure), error))

    async def _services(self, name: dns.name.Name) -> _Found:
        """The targets of a name's SRV records."""
        reply = await self._ask(name, SRV)
        if reply.error:
            return _Found(reply.exists, failure(reply.error))
        ports: dict[dns.name.Name, set[int]] = defaultdict(set)
        for record in reply.records:
            assert isinstance(record, dns.rdtypes.IN.SRV.SRV), "that was asked for"
            # The root as target says that there is no such service (RFC 2782).
            if record.target != dns.name.root and record.port:
                ports[record.target].add(record.port)
        found = [
            Resolution(self._origins(reply.additional[target], ports[target]))
            for target in ports
            if target in reply.additional
        ]
        missing = [target for target in ports if target not in reply.additional]
        looked = await asyncio.gather(*(self._host(target, ports[target]) for target in missing))
        return _Found(reply.exists, _together([*found, *(one.resolution for one in looked)]))

    async def _ask(self, name: dns.name.Name, kind: RdataType) -> _Reply:
        async with self._slots:
            try:
                answer = await self._resolver.resolve(
                    name, kind, raise_on_no_answer=False, search=False
                )
            except dns.resolver.NXDOMAIN:
                return _Reply(exists=False)
            except (dns.exception.DNSException, OSError) as error:
                return _Reply(error=f"{kind.name} of {name}: {one_line(error)}")
        return _Reply(records=tuple(answer.rrset or ()), additional=_additional(answer.response))

    def _origins(self, addresses: Iterable[str], ports: Iterable[int]) -> frozenset[str]:
        found = {str(ip_address(text)) for text in addresses}
        usable = [one for one in found if can_be_reached(one)]
        return frozenset(self._address.origin(one, port) for one in usable for port in ports)


def _additional(response: dns.message.Message) -> Mapping[dns.name.Name, tuple[str, ...]]:
    """The addresses that came with an answer, by name."""
    found: dict[dns.name.Name, tuple[str, ...]] = {}
    for rrset in response.additional:
        if rrset.rdtype in _VERSIONS.values():
            found[rrset.name] = (
                *found.get(rrset.name, ()),
                *(record.to_text() for record in rrset),
            )
    return found


def _together(parts: Iterable[Resolution]) -> Resolution:
    parts = list(parts)
    return Resolution(
        frozenset().union(*(part.origins for part in parts)),
        frozenset().union(*(part.unsure for part in parts)),
        next((part.error for part in parts if part.error), ""),
    )


def failure(error: str, origins: frozenset[str] = frozenset()) -> Resolution:
    """Nothing is known but that there are these."""
    return Resolution(origins, frozenset(_VERSIONS), error)


def _joined(name: dns.name.Name, suffix: dns.name.Name) -> dns.name.Name | None:
    try:
        return name.concatenate(suffix)
    except dns.exception.DNSException:  # longer than a name can be: nobody has it
        return None


def one_line(error: Exception) -> str:
    """What an error says, or else what it is."""
    return " ".join(str(error).split()) or type(error).__name__
